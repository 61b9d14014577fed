"""Preference pairs without people: several answers of a release to each prompt, decided by rules or a judge."""
