"""Retrieval, the pure part: chunks, terms, fusion, packing."""
