"""Fixtures that the import's readers share."""

from published_fixtures import imported, published, rows, tokenizer_folder

__all__ = ["imported", "published", "rows", "tokenizer_folder"]
