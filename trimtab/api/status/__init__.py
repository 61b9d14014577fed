"""Routes and bodies of status."""
