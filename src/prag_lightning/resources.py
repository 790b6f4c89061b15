"""What ships with the package (configurations, prompts, the embedded model, the demo's data), and where relative
inputs are looked for."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
AUGMENTED = "data/ostrane/aug"
"""Augmented data that ships: the one `augment_root` that may be an input."""
_tried: dict[str, Path] = {}
"""By relative input that was found nowhere: the place beside its configuration where it was looked for too."""


def shipped() -> Path:
    """The folder with `configs/`, `checkpoints/` and `data/` as shipped: the package's own data, or in a checkout its
    top."""
    data = _PACKAGE / "shipped"
    return data if data.is_dir() else _PACKAGE.parents[1]


def locate(name: str | Path, beside: Path | None = None) -> Path:
    """Where an input is: relative to the working directory, to the configuration that names it, or as shipped.

    Args:
        name: A path; an absolute one is where it says.
        beside: The folder of the configuration file that names it.

    Returns:
        The first of these places where something is; `name` itself if there is none.
    """
    path = Path(name)
    places = [path, *([] if beside is None else [beside / path]), shipped() / path]
    found = next((place for place in places if place.exists()), None)
    if found is None and beside is not None and not path.is_absolute():
        _tried[str(path)] = beside / path
    return path if found is None else found


def looked_for(path: str | Path) -> str:
    """The places where a missing input was looked for, as errors name them."""
    beside = _tried.get(str(path))
    return str(path) if beside is None else f"{path}, {beside}"
