"""Login and the origin check."""
