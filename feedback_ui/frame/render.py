"""The bar on top of every screen, and what stands in for a screen that a role may not see."""

from __future__ import annotations

from typing import Any

from feedback_ui import texts
from feedback_ui.html import badge, empty, esc
from trimtab_client.values import Role, includes

_MARK = (
    '<svg class="tt-mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8"/>'
    '<path class="tt-mark-rudder" d="M9 7h9a4 4 0 0 1 4 4v9.5l-4.2 4.2a1 1 0 0 1-1.7-.7V11.5H9z"/>'
    '<path class="tt-mark-tab" d="M24.4 18.1l2.1 2.1-5.7 5.7-1.3-1.3z"/></svg>'
)
_SUN = (
    '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M10 2.5a7.5 7.5 0 1 0 0 15z" fill="currentColor"/>'
    '<circle cx="10" cy="10" r="7.5" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
)
_NEEDS: dict[str, Role] = {"rank": "rater", "ops": "ops"}


def header(active: str, who: dict[str, Any] | None = None, ready: str = "") -> str:
    """Render the bar: brand, the screens that the caller's roles open, the platform's state, who is signed in.

    `active` is chat, rank or ops; `ready` a word for the state (empty: not known yet).
    """
    titles = {key: label for key, label, _ in texts.NAV}
    roles = set((who or {}).get("roles", ())) if who else None
    links = "".join(
        f'<a href="{href}"{" aria-current=page" if key == active else ""}>{esc(label)}</a>'
        for key, label, href in texts.NAV
        if roles is None or may(roles, key)
    )
    tone = {texts.READY: "good", texts.LOADING: "warn", texts.OFFLINE: "bad"}.get(ready, "quiet")
    state = f'<span class="tt-state tt-{tone}"><i></i>{esc(ready)}</span>' if ready else ""
    return (
        f'<h1 class="tt-unseen">{esc(texts.TITLE)}: {esc(titles[active])}</h1>'
        f'<div class="tt-bar"><a class="tt-brand" href="./" aria-label="{esc(texts.TITLE)}">'
        f"{_MARK}<span>{esc(texts.TITLE)}</span></a>"
        f'<nav aria-label="Screens">{links}</nav><div class="tt-bar-end">{state}{_person(who)}'
        f'<button type="button" class="tt-icon tt-keys-button" data-tt="keys" aria-label="{esc(texts.SHORTCUTS_LABEL)}" '
        f'title="{esc(texts.SHORTCUTS_LABEL)}">?</button>'
        f'<button type="button" class="tt-icon" data-tt="theme" aria-label="{esc(texts.THEME_LABEL)}" '
        f'title="{esc(texts.THEME_LABEL)}">{_SUN}</button></div></div>'
    )


def _person(who: dict[str, Any] | None) -> str:
    if not who:
        return ""
    if who.get("mode") == "single-user":
        return f'<span class="tt-who">{badge(texts.SINGLE_USER)}</span>'
    return (
        f'<span class="tt-who">{esc(who.get("name"))}</span>'
        '<form method="post" action="./logout" class="tt-logout"><button type="submit">Sign out</button></form>'
    )


def may(roles: set[str], screen: str) -> bool:
    """Return whether these roles open a screen. Display only: the API decides again on every request."""
    return includes(roles, _NEEDS.get(screen, "chat"))


def denied(screen: str, roles: list[str]) -> str:
    """Render what a person sees in place of a screen that their role does not open."""
    title = texts.OPS_DENIED_TITLE if screen == "ops" else texts.RANK_DENIED_TITLE
    return empty(texts.OPS_DENIED.format(roles=", ".join(roles) or texts.NOBODY), title)
