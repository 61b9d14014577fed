"""Runs, releases, deployments, evaluations and canary votes."""
