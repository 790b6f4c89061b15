"""Finding the passages that a question needs. Nothing here imports torch."""

from prag_lightning.retrieval.base import Hit, IndexedRetriever, Retriever, VersionedRetriever, report_unfound
from prag_lightning.retrieval.bm25s import BM25sRetriever
from prag_lightning.retrieval.elasticsearch import ElasticsearchRetriever
from prag_lightning.retrieval.rank_bm25 import RankBM25Retriever
from prag_lightning.retrieval.tokenisation import Tokenisation

__all__ = [
    "BM25sRetriever",
    "ElasticsearchRetriever",
    "Hit",
    "IndexedRetriever",
    "RankBM25Retriever",
    "Retriever",
    "Tokenisation",
    "VersionedRetriever",
    "report_unfound",
]
