"""How well a run's given pairs are told apart at a threshold."""
