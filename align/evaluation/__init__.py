"""The suite and the gate."""
