"""The Rank screen."""
