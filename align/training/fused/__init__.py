"""Parts of a model as single operations: the same numbers, fewer passes over memory, less kept for the gradient."""
