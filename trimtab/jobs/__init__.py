"""Long tasks of the platform: queued, resumable, cancellable, with their progress."""
