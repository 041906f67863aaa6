"""Images, labels and the rules of a retrieval, as columns."""
