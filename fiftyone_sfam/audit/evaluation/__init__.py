"""How good a retrieval is."""
