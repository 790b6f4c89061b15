"""Finding the passages that a question needs. Nothing here imports torch."""

from prag_lightning.retrieval.base import Hit, Retriever
from prag_lightning.retrieval.rank_bm25 import RankBM25Retriever
from prag_lightning.retrieval.tokenisation import Tokenisation

__all__ = ["Hit", "RankBM25Retriever", "Retriever", "Tokenisation"]
