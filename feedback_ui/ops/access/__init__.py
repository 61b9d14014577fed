"""Ops > Access."""
