"""What the `prag` commands do that train nothing."""
