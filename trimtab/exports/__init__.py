"""Releases as files that other programs load."""
