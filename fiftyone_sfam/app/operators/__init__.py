"""The operators: thin callers of the package's functions."""
