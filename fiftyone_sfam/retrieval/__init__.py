"""Nearest neighbors of embeddings, and the pairs made of them."""
