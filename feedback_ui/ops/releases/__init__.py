"""Ops > Releases."""
