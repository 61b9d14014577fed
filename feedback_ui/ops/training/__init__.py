"""Ops > Training."""
