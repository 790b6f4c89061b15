"""A trained `base_weight`: the adapter that every passage starts from learns what answers look like (the paper's
ablation of how LoRAs are initialised). Here are its questions and rows; what trains it stands in `lightning.warmup`."""
