"""Ops > Overview."""
