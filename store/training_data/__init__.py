"""Pairs, demonstrations and likes, and what they rest on."""
