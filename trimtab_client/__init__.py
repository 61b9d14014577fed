"""Typed client of the operations API: for the command line, the UI and anybody's scripts."""
