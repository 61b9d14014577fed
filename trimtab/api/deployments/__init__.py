"""Routes and bodies of deployments."""
