"""Libraries that say more than a user of `prag` needs."""

from __future__ import annotations

import logging
import os
import warnings

_QUIET = (
    ".*does not have many workers.*",
    ".*`LightningModule.configure_optimizers` returned `None`.*",
    ".*Total length of .* across ranks is zero.*",
    ".*is smaller than the logging interval.*",
    ".*is_gradient_checkpointing.*",
    ".*defined a `validation_step`.*",
    ".*using multiple devices.*",
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",
    ".*LightningCLI's args parameter.*",
    ".*instantiate_classes.*",
    ".*sync_dist=True.*",
)


def quiet_libraries() -> None:
    """Leave what a user cannot act on out of the terminal; to be called before they are imported, since they warn then,
    and once more after Lightning is, which sets its loggers' levels anew."""
    for message in _QUIET:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
