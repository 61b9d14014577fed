"""Ops > Audit."""
