"""Documents of one's own, and the passages that they are cut into. Nothing here imports torch."""

from prag_lightning.data.documents.reader import Document, DocumentReader, cut, read_documents, write_corpus

__all__ = ["Document", "DocumentReader", "cut", "read_documents", "write_corpus"]
