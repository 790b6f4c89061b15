"""What goes in: benchmark files, corpora, documents, and prompts."""
