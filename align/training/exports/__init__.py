"""Releases as files that other programs load, checked through what was written."""
