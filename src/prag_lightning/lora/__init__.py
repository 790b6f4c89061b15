"""LoRA over one frozen model, many at a time: layers that hold a stack, adapter files, their store, and merging."""
