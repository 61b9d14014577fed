"""Ops > Data."""
