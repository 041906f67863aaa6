"""A network as the maps need it."""
