"""A trained `base_weight`: the adapter that every passage starts from learns what answers look like (the paper's
ablation of how LoRAs are initialised)."""

from prag_lightning.warmup.datamodule import WarmupDataModule
from prag_lightning.warmup.module import WarmupModule

__all__ = ["WarmupDataModule", "WarmupModule"]
