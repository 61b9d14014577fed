"""Names of people and keys: one rule and one spelling at every door, and the older spellings of a name."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

from store.errors import Invalid

SOURCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
"""The name of what a conversation came from."""
MAX_NAME = 200
PUNCTUATION = "._@+-',:|=()"
RULE = (
    f"1 to {MAX_NAME} letters, marks or digits of any script, {' '.join(PUNCTUATION)} and single spaces, "
    "beginning with a letter or digit"
)
LOGIN_RULE = RULE.replace(" and single spaces", "")


def person_name(value: object, field: str = "name") -> str:
    """Return the name of a person or key in its one spelling (NFC). Raises `Invalid` naming the field."""
    if isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= MAX_NAME:
        return value  # most names, and the hot path asks
    name = spell(value) if isinstance(value, str) else ""
    words = name.split(" ")
    if len(name) > MAX_NAME or "" in words or not name[0].isalnum() or not all(map(_accepted, name)):
        raise Invalid(field, value, RULE)
    return name


def login_name(value: object, field: str = "name") -> str:
    """Return the name of somebody who signs in: the rule of every name, without spaces. Raises `Invalid`."""
    if isinstance(value, str) and " " in value:
        raise Invalid(field, value, LOGIN_RULE)
    return person_name(value, field)


def spell(name: str) -> str:
    """Return the one spelling of a text that names somebody: NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def spellings(name: str) -> list[str]:
    """Return every spelling under which a person may have been stored, `name` and its NFC form among them.

    Before names had one spelling, a header's UTF-8 was read as Latin-1 ("ZoÃ«"), names that a front end had
    percent-encoded ("Zo%C3%AB") stayed so, and composed and decomposed letters were two names.
    """
    plain = [name, _from_latin1(name), unquote(name)]
    forms = [unicodedata.normalize(form, one) for one in plain for form in ("NFC", "NFD")]
    percent = [quote(one, safe=safe) for one in forms for safe in ("", " ", "/")]
    return list(dict.fromkeys([*plain, *forms, *map(_to_latin1, forms), *percent]))


def _accepted(character: str) -> bool:
    return character in PUNCTUATION or character == " " or unicodedata.category(character)[0] in "LMN"


def _from_latin1(name: str) -> str:
    try:
        return name.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return name


def _to_latin1(name: str) -> str:
    return name.encode("utf-8", "replace").decode("latin-1")
