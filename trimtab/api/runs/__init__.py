"""Routes and bodies of runs."""
