"""Routes and bodies of people."""
