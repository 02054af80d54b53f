"""What a project has on Kaggle: planned, pushed, read back, and followed to its end."""
