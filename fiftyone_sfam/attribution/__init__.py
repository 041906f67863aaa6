"""The maps, and how they are drawn."""
