"""Conversations as they were held: turns, trees of messages, owners, ratings of answers, one's own list of them."""
