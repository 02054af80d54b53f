"""Checkpoints: what they hold, whether they are whole, whether they fit a target and how fast they are there."""
