"""Small pieces of safe HTML. Everything that comes from outside passes through `esc`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any


def esc(value: object) -> str:
    """Escape any value for text or a quoted attribute; None is empty, half a surrogate pair becomes its code."""
    if value is None:
        return ""
    return escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)


def clean(text: str) -> str:
    """Bring line ends to one form and make visible what no page can hold: null bytes and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{SYMBOL FOR NULL}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """Escape text so that it stays on one line of HTML, which Markdown passes on untouched."""
    return esc(clean(text)).replace("\n", "&#10;")


def badge(text: object, tone: str = "quiet") -> str:
    """Render a small label; `tone` is quiet, good, warn, bad or accent."""
    return f'<span class="tt-badge tt-{esc(tone)}">{esc(text)}</span>'


def code(name: object, longest: int = 18) -> str:
    """Render an id or a hash; of a long one the beginning, the whole being its tooltip."""
    text = str(name)
    shown = text if len(text) <= longest else f"{text[:longest]}…"
    return f'<code title="{esc(text)}">{esc(shown)}</code>'


def card(title: str, body: str, aside: str = "", css_class: str = "") -> str:
    """Render a titled panel around `body`, which is HTML already."""
    head = f'<header><h2>{esc(title)}</h2><div class="tt-aside">{aside}</div></header>' if title else ""
    return f'<section class="tt-card {esc(css_class)}">{head}{body}</section>'


def form_head(title: str, hint: str = "") -> str:
    """Render the head of a form: its title and a sentence about what it does."""
    more = f"<p>{esc(hint)}</p>" if hint else ""
    return f'<div class="tt-form-head"><h2>{esc(title)}</h2>{more}</div>'


def empty(text: str, title: str = "") -> str:
    """Render an empty state: what is missing and what to do next."""
    strong = f"<strong>{esc(title)}</strong>" if title else ""
    return f'<div class="tt-empty">{strong}<p>{esc(text)}</p></div>'


def notice(text: str, tone: str = "quiet", detail: str = "") -> str:
    """Render a line that informs; it is announced by screen readers."""
    more = f'<div class="tt-notice-detail">{detail}</div>' if detail else ""
    return f'<div class="tt-notice tt-{esc(tone)}" role="status"><div>{esc(text)}</div>{more}</div>'


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str, numeric: Iterable[int] = ()
) -> str:
    """Render a table whose cells are HTML already; columns in `numeric` (from 0) are set to the right."""
    right = set(numeric)

    def cell(tag: str, index: int, content: str) -> str:
        css = ' class="tt-num"' if index in right else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{css}>{content}</{tag}>"

    head = "".join(cell("th", i, esc(text)) for i, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell('td', i, c) for i, c in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="tt-scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table class="tt-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Render a list of terms and values; the values are HTML already."""
    inner = "".join(f"<div><dt>{esc(term)}</dt><dd>{value}</dd></div>" for term, value in pairs)
    return f'<dl class="tt-facts">{inner}</dl>'


def fold(key: str, summary: str, body: str) -> str:
    """Render a part that unfolds and stays unfolded when the page redraws; `key` names it on its page."""
    return f'<details data-key="{esc(key)}"><summary>{esc(summary)}</summary>{body}</details>'


def parse_time(value: object) -> datetime | None:
    """Read an ISO 8601 time as the API writes it; None for anything else."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str) or not value:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def ago(value: object, now: datetime | None = None) -> str:
    """Render the time since (or until) a moment, with the exact time as a tooltip."""
    moment = parse_time(value)
    if moment is None:
        return '<span class="tt-subdued">never</span>'
    delta = ((now or datetime.now(UTC)) - moment).total_seconds()
    text = "just now" if abs(delta) < 5 else f"{_coarse(delta)} ago" if delta > 0 else f"in {_coarse(-delta)}"
    return f'<time datetime="{esc(moment.isoformat())}" title="{moment:%Y-%m-%d %H:%M:%S} UTC">{text}</time>'


def duration(seconds: float | None) -> str:
    """Format seconds in the largest unit that is exact enough: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 3 d."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def _coarse(seconds: float) -> str:
    """Format seconds in one unit."""
    for unit, name, below in ((1, "s", 60), (60, "min", 60), (3600, "h", 48)):
        if seconds < unit * below:
            return f"{max(1, int(seconds // unit))} {name}"
    return f"{int(seconds // 86_400)} d"


def number(value: Any, digits: int = 3) -> str:
    """Render a number for a table: thousands apart, at most `digits` significant decimals; – for none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else esc(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 0) -> str:
    """Render a share from 0 to 1 as a percentage."""
    return "–" if share is None else f"{share * 100:.{digits}f}%"


def first_line(text: str, width: int = 140) -> str:
    """Render the beginning of a text on one line, escaped."""
    flat = " ".join(text.split())
    return esc(flat if len(flat) <= width else flat[: width - 1].rstrip() + "…")
