"""Copies of one picture: hashes, their neighbors, and the comparison of pixels."""
