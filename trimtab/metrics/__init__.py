"""Prometheus series of the loop: what people said, what waits, what runs, what was decided."""
