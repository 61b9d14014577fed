"""Reading the settings: one TOML file, overridden by `TRIMTAB_…`; all faults are reported together, each in a sentence.

Nested keys in the environment are joined by two underscores: `TRIMTAB_SERVER__PORT=8000`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsConfigDict

from trimtab.config.paths import SETTINGS_FILE
from trimtab.config.settings import Settings
from trimtab.errors import SettingsError

NOT_SETTINGS = {
    "TRIMTAB_URL",
    "TRIMTAB_KEY",
    "TRIMTAB_PASSWORD",
    "TRIMTAB_PROCESS",
    "TRIMTAB_ADAPTERS_DIR",
    "TRIMTAB_TEST_CACHE",
    "TRIMTAB_CONFIG",
}
"""Environment variables of ours that are not settings."""


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Return the settings from `config` (or `trimtab.toml` here, when there is one), the environment and `overrides`.

    Raises SettingsError with every fault: unknown keys, wrong types and values out of range, a file that is not TOML.
    """
    if config is None and SETTINGS_FILE.is_file():
        config = SETTINGS_FILE
    faults = _unknown_environment()
    if config is not None:
        if not config.is_file():
            raise SettingsError([f"settings file {config}: no such file"])
        try:
            tomllib.loads(config.read_text("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"settings file {config} is not TOML: {error}"]) from error
    reader = type(
        "Settings",
        (Settings,),
        {"model_config": SettingsConfigDict(toml_file=config), "__module__": __name__},
    )
    try:
        settings = reader(**overrides)
    except ValidationError as error:
        faults += [_explain(fault, config) for fault in error.errors()]
    if faults:
        raise SettingsError(faults)
    return typing.cast(Settings, settings)


def _unknown_environment() -> list[str]:
    known = set(Settings.model_fields)
    faults = []
    for name in os.environ:
        if not name.startswith("TRIMTAB_") or name in NOT_SETTINGS:
            continue
        key = name.removeprefix("TRIMTAB_").split("__")[0].lower()
        if key not in known:
            faults.append(f"environment variable {name}: no such setting{_nearest(key, known)}")
    return faults


def _explain(fault: Any, config: Path | None) -> str:
    """Return one sentence on one fault: the key, its meaning, the value and what is accepted."""
    path = [str(part) for part in fault["loc"] if part != "[key]"]
    if not path:
        return str(fault["msg"]).removeprefix("Value error, ")
    key = ".".join(path)
    model, field = _find(path)
    where = f" (in {config} or the environment)" if config else " (in the environment)"
    if fault["type"] == "extra_forbidden":
        accepted = sorted(model.model_fields) if model else []
        return f"{key}: no such setting{where}{_nearest(path[-1], accepted)}; accepted here: {', '.join(accepted)}"
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{key}{meaning}: {fault['msg']}; it is {fault.get('input')!r}{_accepted(field)}"


def _nearest(word: str, accepted: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(accepted), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _accepted(field: Any) -> str:
    if field is None:
        return ""
    if typing.get_origin(field.annotation) is Literal:
        return f"; accepted: {', '.join(repr(value) for value in typing.get_args(field.annotation))}"
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if hasattr(rule, name)
    ]
    return f"; accepted: {' and '.join(bounds)}" if bounds else ""


def _find(path: list[str]) -> tuple[Any, Any]:
    """Return the model that owns the last key of `path`, and that key's field (or None)."""
    model: Any = Settings
    field: Any = None
    for index, part in enumerate(path):
        if model is None:
            break
        field = model.model_fields.get(part)
        if index == len(path) - 1 or field is None:
            return model, field
        model = _section_of(field.annotation)
        if isinstance(model, tuple):
            # a table or list of tables (`engines.main.…`, `gate.checks.0.…`): the next part is no field
            model = model[0]
            if index + 1 == len(path) - 1:
                return model, None
            rest = path[index + 2 :]
            return _find_in(model, rest)
    return model, field


def _find_in(model: Any, path: list[str]) -> tuple[Any, Any]:
    return model, model.model_fields.get(path[0]) if path else None


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = typing.get_origin(annotation)
    if origin in (dict, tuple):
        value = typing.get_args(annotation)[0 if origin is tuple else 1]
        return (value,) if isinstance(value, type) and issubclass(value, BaseModel) else None
    if origin in (types.UnionType, typing.Union):
        return next((_section_of(arg) for arg in typing.get_args(annotation) if _section_of(arg)), None)
    return None
