"""The Ops screen, one folder per tab."""
