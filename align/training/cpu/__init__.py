"""What makes training faster on the CPU."""
