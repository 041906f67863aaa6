"""Making a run."""
