"""A failed run's log and its known causes."""
