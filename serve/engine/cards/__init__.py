"""Engines on NVIDIA cards: what they take, where they are placed, and how they make room."""
