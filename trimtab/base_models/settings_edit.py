"""Base models in the settings file: added and removed with tomlkit, so that comments and order stay.

A new text is read as settings before it replaces the file, in one rename.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from trimtab.config.serving_sections import DEFAULT_BASE
from trimtab.config.settings_file import load
from trimtab.config.writing import writing
from trimtab.errors import ModelRefused, SettingsError

DEFAULT_ENGINE, DEFAULT_DEPLOYMENT = "main", "assistant"


def require_free(file: Path, base: str, deployment: str | None) -> None:
    """Raise `ModelRefused` where the name of the base or of the deployment can't be used, `SettingsError` for a bad file."""
    if not base or any(sign in base for sign in "@/ .") or not base.isprintable():
        raise ModelRefused(
            "NAME", f"{base!r} can't name a base model", "a name without '@', '/', '.' or spaces"
        )
    chosen = load(file if file.exists() else None)
    if base in chosen.engines or any(engine.base == base for engine in chosen.engines.values()):
        raise ModelRefused("NAME", f"{file} has a base model or engine {base!r} already", "another name")
    if base in chosen.deployments:
        raise ModelRefused("NAME", f"{file} has a deployment {base!r}", "a name that no deployment has")
    if deployment is None:
        return
    if deployment in chosen.deployments:
        raise ModelRefused("--deployment", f"{file} has a deployment {deployment!r} already", "another name")
    if deployment == base or deployment in {engine.base for engine in chosen.engines.values()}:
        raise ModelRefused("--deployment", f"{deployment!r} is the name of a base model", "another name")


def add(file: Path, base: str, engine: Mapping[str, Any], deployment: str | None) -> None:
    """Add an engine of the same name for the base, and a deployment of it. Raises `SettingsError`, `PathRefused`."""
    document = _read(file)
    engines = document.setdefault("engines", tomlkit.table(is_super_table=True))
    if not engines:
        # naming one engine replaces the default ones, so the built-in base is named too
        engines[DEFAULT_ENGINE] = _table({"base": DEFAULT_BASE})
    engines[base] = _table({"base": base, **engine})
    if deployment is not None:
        deployments = document.setdefault("deployments", tomlkit.table(is_super_table=True))
        if not deployments:
            deployments[DEFAULT_DEPLOYMENT] = _table({"base": DEFAULT_BASE})
        deployments[deployment] = _table({"base": base})
    _write(file, document)


def require_removable(file: Path, base: str) -> tuple[list[str], list[str]]:
    """Return a base's engines and deployments. Raises `ModelRefused` where it has none or is needed, `SettingsError`."""
    chosen = load(file if file.exists() else None)
    bases = sorted({engine.base for engine in chosen.engines.values()})
    names = [name for name, engine in chosen.engines.items() if engine.base == base]
    if not names:
        raise ModelRefused("NAME", f"{file} has no base model {base!r}", ", ".join(bases))
    if len(bases) == 1:
        raise ModelRefused("NAME", f"{base} is the only base model of {file}", "one of several base models")
    gone = [name for name, deployment in chosen.deployments.items() if deployment.base == base]
    if used := [key for key, schedule in chosen.named_schedules().items() if schedule.deployment in gone]:
        raise ModelRefused(
            "NAME", f"{used[0]} in {file} retrains a deployment of {base}", "a base without a schedule"
        )
    if other := [name for name in names if name not in _read(file).get("engines", {})]:
        why = f"its engine {other[0]} is set in the environment, not in {file}"
        raise ModelRefused("NAME", why, "a base of the settings file")
    return names, gone


def remove(file: Path, base: str) -> None:
    """Take away the engines and deployments of a base. Raises what `require_removable` does, and `PathRefused`."""
    engines, gone = require_removable(file, base)
    document = _read(file)
    for table, names in (("engines", engines), ("deployments", gone)):
        for name in names:
            document.get(table, {}).pop(name, None)
    _write(file, document)


def _read(file: Path) -> tomlkit.TOMLDocument:
    if not file.exists():
        return tomlkit.document()
    try:
        return tomlkit.parse(file.read_text("utf-8-sig"))
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise SettingsError([f"settings file {file} is not TOML: {error}"]) from error


def _table(values: Mapping[str, Any]) -> Any:
    table = tomlkit.table()
    for name, value in values.items():
        if value is not None:
            table[name] = value
    table.add(tomlkit.nl())
    return table


def _write(file: Path, document: tomlkit.TOMLDocument) -> None:
    """Replace the file by the document, once that was read as settings."""
    file = file.resolve()  # a link stays a link
    scratch = file.with_name(f".{file.name}.{os.getpid()}.part")
    with writing(file):
        try:
            scratch.write_text(tomlkit.dumps(document), "utf-8")
            if file.exists():
                scratch.chmod(file.stat().st_mode & 0o777)
            load(scratch)
            scratch.replace(file)
        finally:
            scratch.unlink(missing_ok=True)
