"""Recipes and the training plan, without torch."""
