"""The suite and the gate."""

BUILT_IN_SUITES = ("quick", "default", "full")
"""Names of the files in `suites/`."""
