"""Parametric RAG that people can run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prag_lightning.cli.settings import load_pipeline
    from prag_lightning.cli.stages import experiment
    from prag_lightning.lightning.datamodule import PragDataModule
    from prag_lightning.lightning.module import PragModule
    from prag_lightning.lightning.trainer import PragTrainer
    from prag_lightning.lightning.warmup.datamodule import WarmupDataModule
    from prag_lightning.lightning.warmup.module import WarmupModule
    from prag_lightning.parametric_rag import ParametricRAG

__version__ = "0.1.0"
__all__ = [
    "ParametricRAG",
    "PragDataModule",
    "PragModule",
    "PragTrainer",
    "WarmupDataModule",
    "WarmupModule",
    "experiment",
    "load_pipeline",
]

_HOMES = {
    "ParametricRAG": "parametric_rag",
    "PragDataModule": "lightning.datamodule",
    "PragModule": "lightning.module",
    "PragTrainer": "lightning.trainer",
    "WarmupDataModule": "lightning.warmup.datamodule",
    "WarmupModule": "lightning.warmup.module",
    "experiment": "cli.stages",
    "load_pipeline": "cli.settings",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: Lightning and torch take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Also what is imported only when it is asked for."""
    return sorted([*globals(), *__all__])
