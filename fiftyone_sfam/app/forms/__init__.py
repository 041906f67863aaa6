"""What the operators' forms share."""
