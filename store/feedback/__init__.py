"""Comparisons, votes and raters."""
