"""NVIDIA cards as the operator sees them: who holds their memory, and what is checked."""
