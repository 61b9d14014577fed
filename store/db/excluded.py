"""Rows that an operator left out of the training data, as SQL."""

from __future__ import annotations

EXCLUDED = "select item_id from row_reviews where state = 'excluded'"
"""The ids of the rows that no snapshot, export or count of rows to train on takes."""

NOT_EXCLUDED = f"id not in ({EXCLUDED})"
"""The condition on a pair, demonstration or like that it is not among them."""
