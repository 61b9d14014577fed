"""Sequence packing and prefix sharing."""
