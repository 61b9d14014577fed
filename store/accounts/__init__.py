"""Users, keys, usage and the audit log."""
