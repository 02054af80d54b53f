"""The one door to Kaggle: the login, calls that are repeated or made once, uploads, and each service."""
