"""How good the probabilities are."""
