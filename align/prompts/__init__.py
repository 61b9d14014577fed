"""Search for the system prompt and the examples that make a base model answer best."""
