"""Training, evaluation and the gate. The worker knows only its run directory: no store, no server."""
