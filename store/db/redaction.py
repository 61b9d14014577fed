"""Take e-mail addresses, phone numbers and secrets out of text before it is stored.

Phone numbers by phonenumbers (Google's libphonenumber), secrets by the patterns of detect-secrets (keys and tokens of
known services, private keys, passwords in URLs), e-mail addresses by a pattern. What is found becomes `[email]`,
`[phone]` or `[secret]`; the same text always gives the same, so hashes still find duplicates. Not covered: names,
postal addresses, and secrets without a known shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

from store import carried
from store.db.database import Store
from store.errors import Invalid
from store.values import Conversation, Message, PreferencePair

KINDS = ("email", "phone", "secret")
_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_DETECTORS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector", "PypiTokenDetector",
    "SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)  # fmt: skip

V = TypeVar("V")


def redactor(kinds: Iterable[str] = KINDS, region: str = "US") -> Callable[[str], str]:
    """Return a function that redacts text; give it to `Store.redact`.

    `region` is where phone numbers without a country code are from. Raises `Invalid` for an unknown kind.
    """
    chosen = tuple(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise Invalid("redact", kind, KINDS)

    def redact(text: str) -> str:
        if "secret" in chosen:
            text = _PRIVATE_KEY.sub("[secret]", text)
            for pattern in _secret_patterns():
                text = pattern.sub(_secret, text)
        if "email" in chosen:
            text = _EMAIL.sub("[email]", text)
        if "phone" in chosen and any(c.isdigit() for c in text):
            text = _without_phones(text, region)
        return text

    return redact


def conversation(db: Store, messages: Conversation) -> Conversation:
    """Return messages as the store may keep them."""
    if db.redact is None:
        return messages
    return tuple(
        Message(message.role, db.redact(message.content), carried_text(db, message.carried))
        for message in messages
    )


def text(db: Store, value: str) -> str:
    """Return text as the store may keep it."""
    return value if db.redact is None else db.redact(value)


def json_value(db: Store, given: Any) -> Any:
    """Return a JSON value with every text in it as the store may keep it."""
    return given if db.redact is None else _within(db.redact, given)


def tags(db: Store, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return tags as the store may keep them, sorted and unique."""
    return given if db.redact is None else tuple(sorted({db.redact(tag) for tag in given}))


def value(db: Store, given: V) -> V:
    """Return a pair, demonstration or like as the store may keep it, its tags too.

    Raises `Invalid` for a pair whose two answers differ only in what is redacted.
    """
    if db.redact is None:
        return given
    item: Any = given
    parts = {f.name: getattr(item, f.name) for f in fields(item)}
    changed: dict[str, Any] = {
        name: conversation(db, part)
        for name, part in parts.items()
        if isinstance(part, tuple) and part and isinstance(part[0], Message)
    }
    if "tags" in parts:
        changed["tags"] = tags(db, parts["tags"])
    made: Any = replace(item, **changed)
    if isinstance(made, PreferencePair) and made.chosen == made.rejected:
        raise Invalid("rejected", "…", "a response that differs from `chosen` in more than redacted words")
    result: V = made
    return result


def carried_text(db: Store, value: str) -> str:
    """Return what a message carries (see `store.carried`) as the store may keep it."""
    if db.redact is None or not value:
        return value
    return carried.changed(value, partial(_within, db.redact))


def _within(redact: Callable[[str], str], value: Any) -> Any:
    """Redact every text in a JSON value."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _within(redact, inner) for key, inner in value.items()}
    return [_within(redact, inner) for inner in value] if isinstance(value, list) else value


def _secret(match: re.Match[str]) -> str:
    """Redact the captured secret, or all where the pattern captures nothing of substance."""
    for number in range(1, (match.re.groups or 0) + 1):
        found = match.group(number)
        if found and len(found) > 6:
            return match.group(0).replace(found, "[secret]")
    return "[secret]"


@lru_cache(maxsize=1)
def _secret_patterns() -> tuple[re.Pattern[str], ...]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    plugins: dict[str, Any] = get_mapping_from_secret_type_to_class()
    known = {plugin.__name__: plugin for plugin in plugins.values()}
    return tuple(pattern for name in _DETECTORS for pattern in known[name].denylist)


def _without_phones(text: str, region: str) -> str:
    import phonenumbers

    parts, end = [], 0
    for match in phonenumbers.PhoneNumberMatcher(text, region):
        parts += [text[end : match.start], "[phone]"]
        end = match.end
    return "".join([*parts, text[end:]])
