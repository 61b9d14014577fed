"""Routes and bodies of the search for prompts."""
