"""Durations as text."""


def duration(seconds: float) -> str:
    """Say seconds in the unit that fits: `90 s`, `12 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
