"""Memory of a training run: what is recomputed so that it fits, and what happens when it runs out."""
