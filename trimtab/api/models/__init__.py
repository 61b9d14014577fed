"""Routes and bodies of base models."""
