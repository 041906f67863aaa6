"""What regions of the images carry of the scores."""
