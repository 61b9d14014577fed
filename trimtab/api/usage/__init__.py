"""Routes and bodies of usage."""
