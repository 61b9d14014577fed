"""Routes and bodies of releases."""
