"""Answers of a served release: asked for, timed and kept."""
