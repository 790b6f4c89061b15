"""The training of a `base_weight`."""
