"""The `prag` command: parsing, help, configuration files."""

from prag_lightning.cli.entry import main

__all__ = ["main"]
