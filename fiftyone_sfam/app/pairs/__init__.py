"""The panel of pairs."""
