"""The Lightning shell: module, data module, trainer and callbacks."""
