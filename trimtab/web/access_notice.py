"""What making a first key or a first user changes about who may ask, in words for whoever makes it."""

from __future__ import annotations

from store.accounts import users
from store.db.database import Store

ADD_USER = "trimtab users add NAME --role ops"
NO_USER = (
    "No user exists, so nobody can sign in. While the platform listens on this machine alone, nobody here needs a key or a "
    "sign-in (a key that is shown must be right); on another address every request needs a key. "
    f"`{ADD_USER}` makes somebody who can sign in."
)
FIRST_USER = "This is the first user: from now on everybody signs in or sends a key, on this machine too."
NO_OPERATOR = f"No user has the role ops, so nobody can use Ops. `{ADD_USER}` makes one who can."


def of_key(db: Store) -> str | None:
    """Return what to say when a key is made, None where people can sign in."""
    return None if users.count(db) else NO_USER


def of_user(db: Store) -> str | None:
    """Return what to say when a user was made, None where nothing changed for others."""
    found = users.list_all(db)
    said = [FIRST_USER] if len(found) == 1 else []
    if not any("ops" in user.roles for user in found):
        said.append(NO_OPERATOR)
    return " ".join(said) or None
