"""The store without a running platform, for commands that must work before one starts or when none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.cli.common import address, fail, paths
from trimtab.errors import PlatformNotFound, StoreNotFound, TrimtabError

if TYPE_CHECKING:
    from store.db.database import Store


def running(data: Path | None) -> bool:
    """Return whether a platform answers for this data directory, or is named by `TRIMTAB_URL`."""
    try:
        address(data)
    except PlatformNotFound:
        return False
    return True


@contextmanager
def opened(data: Path | None, make: bool = False) -> Iterator[Store]:
    """Open the store of a data directory; only with `make` is one created where there is none.

    Failures end the command with their reason, those of what is done inside too.
    """
    from store.db.database import Store  # DuckDB: no command that finds a platform needs it
    from store.errors import StoreError
    from trimtab.config.writing import writing

    where = paths(data)
    try:
        with writing(where.root):
            if make:
                where.make()
            elif not where.store.is_file():
                raise StoreNotFound(
                    f"no store in {where.root}: `trimtab up` makes one; --data names another directory"
                )
            store = Store.open(where.store)
        with store:
            yield store
    except (StoreError, TrimtabError) as error:
        fail(str(error))
