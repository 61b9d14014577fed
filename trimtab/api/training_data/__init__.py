"""Routes and bodies of training data."""
