"""A client of Kaggle's API: the login, calls that are repeated or made once, uploads, and each service."""
