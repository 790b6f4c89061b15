"""prag-tiny: a made-up world, and a small Llama that is trained on it from nothing."""
