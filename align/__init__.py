"""Training, evaluation and the gate. The worker uses only its run directory: no store, no server."""
