"""`trimtab up`: checks the address, opens the platform, says where it answers, and serves until it is stopped."""

from __future__ import annotations

import logging
import os
import socket
import threading
import webbrowser
from pathlib import Path

import uvicorn

from common.net import is_loopback
from store.accounts import keys, users
from store.db.database import Store
from trimtab.app import build_app, build_platform
from trimtab.cards import checks
from trimtab.config.paths import SETTINGS_FILE
from trimtab.config.settings import Settings
from trimtab.config.writing import writing
from trimtab.errors import PortInUse, UnsafeAddress
from trimtab.web import logs
from trimtab.web.http10 import Protocol
from trimtab.web.shutdown import EndCancelledRequests


def up(settings: Settings, open_browser: bool = False, settings_file: Path = SETTINGS_FILE) -> None:
    """Serve until SIGINT or SIGTERM. Raises PortInUse, UnsafeAddress, PathRefused, StoreError and its kinds.

    `settings_file` is read again for base models that are added meanwhile. A store that turns out to be damaged while it
    serves ends it too, with StoreDamaged.
    """
    logs.set_up(settings.server.log_format)
    listener = listen(settings.server.host, settings.server.port)
    port = listener.getsockname()[1]
    url = f"http://{browser_host(settings.server.host)}:{port}"
    with writing(settings.data.absolute()):
        platform = build_platform(settings, url, settings_file.absolute())
    try:
        require_sign_in(platform.db, settings.server.host)
    except UnsafeAddress:
        platform.db.close()
        raise
    app = build_app(platform)
    platform.paths.write_platform(
        {
            "pid": os.getpid(),
            "url": url,
            "started_at": platform.started_at.isoformat(),
            "key": platform.key,
            "settings": str(platform.settings_file),
        }
    )
    logging.getLogger(__name__).info(
        "Trimtab answers at %s (engines are loading; Ctrl-C stops everything)", url
    )
    # Beside the start of the engines, since the driver's tool may take seconds.
    threading.Thread(target=checks.warn, args=(settings, platform.paths), daemon=True).start()
    if open_browser:
        webbrowser.open(url)
    config = uvicorn.Config(
        EndCancelledRequests(app),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=settings.server.drain_s,
        lifespan="on",
        loop="uvloop",
        http=Protocol,
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    platform.stop = stop
    server.run(sockets=[listener])
    if platform.damage is not None:
        raise platform.damage


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, bound before anything else starts. Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"{host}:{port} cannot be listened on ({error.strerror}). Another program, perhaps another Trimtab, has it: "
            "stop that one, or choose another with --port (0 takes a free one)."
        ) from error
    listener.set_inheritable(False)
    return listener


def require_sign_in(db: Store, host: str) -> None:
    """Raise UnsafeAddress when other machines could reach a platform that asks nobody to sign in."""
    if is_loopback(host) or users.count(db) or keys.count(db):
        return
    raise UnsafeAddress(
        f"refusing to listen on {host}: other machines could reach it and nobody would have to sign in. "
        "Make a user first (`trimtab users add NAME --role ops`) or a key (`trimtab keys create NAME --role ops`), "
        "or listen on 127.0.0.1."
    )


def browser_host(host: str) -> str:
    """Return `host` as a browser on this machine would address it."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
