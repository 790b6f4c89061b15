"""Frozen causal language models: names, loading, and generation."""
