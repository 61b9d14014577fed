"""Rate limits, quotas and usage."""
