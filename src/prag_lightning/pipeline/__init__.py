"""An experiment without Lightning: its settings, its data, and what they make of an LLM. Nothing loads before it is
used."""
