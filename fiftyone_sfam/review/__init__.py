"""Verdicts of people on pairs."""
