"""Routes and bodies of recipes."""
