"""Facts that several packages need; imports nothing of ours and nothing but the standard library."""
