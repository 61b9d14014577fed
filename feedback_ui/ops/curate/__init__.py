"""Ops > Curate."""
