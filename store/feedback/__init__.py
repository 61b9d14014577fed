"""Conversations, comparisons and raters."""
