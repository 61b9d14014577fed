"""Base models: where their weights are, whether they can be served and trained, and their part of the settings file."""
