"""Folders that are laid out as the data sets of the field: their images and labels."""
