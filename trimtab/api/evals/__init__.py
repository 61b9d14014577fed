"""Routes and bodies of evals."""
