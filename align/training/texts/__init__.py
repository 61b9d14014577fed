"""Rows of training data as the tokens of a chat template."""
