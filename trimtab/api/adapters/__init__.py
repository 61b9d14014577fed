"""Routes and bodies of adapters."""
