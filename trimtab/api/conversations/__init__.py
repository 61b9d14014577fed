"""Routes and bodies of conversations."""
