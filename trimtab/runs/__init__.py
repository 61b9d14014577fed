"""Runs: workers, planning and schedule."""
