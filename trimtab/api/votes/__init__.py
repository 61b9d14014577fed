"""Routes and bodies of votes."""
