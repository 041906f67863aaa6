"""The maps, and pictures of them."""
