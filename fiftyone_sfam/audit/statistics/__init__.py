"""Intervals and rates."""
