"""The one door to Kaggle: its login, its typed client, uploads, and what can be read and made there."""
