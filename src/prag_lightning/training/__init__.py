"""Passages into adapters: recipes, examples, losses, and the stacked training of groups."""
