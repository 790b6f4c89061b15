"""Adapters to the Hugging Face hub, for who asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.card import FILE as CARD_FILE
from prag_lightning.inference.card import hub_card
from prag_lightning.inference.exporter import GGUF_FILE, MODEL_FILE
from prag_lightning.lora.adapters import CONFIG_FILE, WEIGHTS_FILE

_PUSHED = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, GGUF_FILE, MODEL_FILE)


def check_hub(repo_id: str) -> None:
    """See, before anything is written, whether pushing can work.

    Raises:
        InputError: if the name cannot be a repository's, or nobody is logged in.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(str(error), where="--push_to_hub", hint="Give a name such as me/my-adapters") from error
    if get_token() is None:
        raise InputError(
            "there is no token for the Hugging Face hub",
            where=f"--push_to_hub {repo_id}",
            hint="Log in with 'hf auth login', or set HF_TOKEN",
        )


def push(repo_id: str, folder: Path, directories: Iterable[Path], base: str, *, private: bool) -> str:
    """Commit adapter directories to a repository, under the paths that they have below a folder, with a card of the
    repository if it has none, and nothing else.

    Args:
        repo_id: The repository, which is made if it is missing.
        folder: Their common folder.
        directories: The adapters.
        base: Their model; see `Card`.
        private: Whether a repository that is made is private.

    Returns:
        Its address.

    Raises:
        PragError: if the hub refuses or cannot be reached.
    """
    api = HfApi()
    files = [path for directory in directories for path in sorted(directory.iterdir()) if path.name in _PUSHED]
    operations = [CommitOperationAdd(file.relative_to(folder).as_posix(), file) for file in files]
    try:
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        if not api.file_exists(repo.repo_id, CARD_FILE):
            operations.append(CommitOperationAdd(CARD_FILE, hub_card(base, repo.repo_id).encode()))
        api.create_commit(repo.repo_id, operations, commit_message="Add adapters")
    except (HTTPError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise PragError(
            f"the Hugging Face hub did not take the adapters: {str(error).strip()[:300]}",
            where=f"--push_to_hub {repo_id}",
            hint=f"They are in {folder}; the same command pushes them again",
        ) from error
    return str(repo)
