"""Rollout and the canary test."""
