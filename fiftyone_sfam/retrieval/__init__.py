"""Nearest neighbors of embeddings, and their pairs."""
