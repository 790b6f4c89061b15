"""Documents of one's own, and the passages that they are cut into. Nothing here imports torch."""

from prag_lightning.data.documents.document import Block, Document, document_of_text
from prag_lightning.data.documents.reader import LARGEST_FILE, SUFFIXES, DocumentReader
from prag_lightning.data.documents.splitting import OVERLAP, split

__all__ = ["LARGEST_FILE", "OVERLAP", "SUFFIXES", "Block", "Document", "DocumentReader", "document_of_text", "split"]
