"""Prompts before weights: the search for a prompt, and releases and models compared on one suite."""
