"""What runs in the worker: the only code that imports torch."""
