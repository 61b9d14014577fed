"""Routes and bodies of comparisons."""
