"""All that runs on Kaggle. It imports nothing else of the kit but `errors` and `files`."""
