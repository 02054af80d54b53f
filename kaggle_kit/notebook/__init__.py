"""Sources and templates become notebooks."""
