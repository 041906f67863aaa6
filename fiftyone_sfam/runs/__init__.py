"""What a run stores, and how it is read back."""
