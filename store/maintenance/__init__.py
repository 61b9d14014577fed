"""Backup, restore and verification."""
