"""Validate, publish, check parity of and prune adapters."""
