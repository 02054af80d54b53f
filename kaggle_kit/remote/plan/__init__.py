"""What a push would do: what is here, what was pushed, what Kaggle has, and what speaks against it."""
