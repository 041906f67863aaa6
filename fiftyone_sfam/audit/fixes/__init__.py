"""Corrections of labels that verdicts agree on."""
