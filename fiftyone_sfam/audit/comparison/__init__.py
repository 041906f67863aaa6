"""Two models on the same images: what changed, and where they look."""
