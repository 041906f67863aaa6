"""How far the maps can be trusted."""
