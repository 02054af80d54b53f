"""kaggle-kit: offline Kaggle notebooks that score a large language model."""

__version__ = "0.1.0"
