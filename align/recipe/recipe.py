"""A recipe: every setting of a training run, typed, complete and checked before anything is loaded.

Names are TRL's and PEFT's own. The fields are in `align.recipe.fields`. This module imports no torch and loads no model:
what depends on the hardware is the value "auto" here and is decided by the worker, which records what it
chose.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from align.errors import RecipeError
from align.recipe.fields import FIELDS, HARMLESS, REFUSED, accepted, defaults, methods_of, validated
from common.training_methods import METHODS

# A flip rate from raters' agreement (`with_flip_rate`): pairs of votes needed, the rate without them, its bounds.
MIN_JUDGED_TWICE = 20
DEFAULT_FLIP_RATE = 0.1
MIN_FLIP_RATE = 0.001
MAX_FLIP_RATE = 0.45
# "auto" passes and accumulation: the least steps of a run, the most passes, and micro-batches per step where rows suffice.
MIN_STEPS = 40
MAX_PASSES = 5
ACCUMULATION = 2
# The losses that read `label_smoothing`.
SMOOTHED_LOSSES = ("robust", "exo_pair")
# Below these values of beta a run is warned about (`cautions`).
MIN_IPO_BETA = 0.5
MIN_SIGMOID_NORM_BETA = 1.0


@dataclass(frozen=True)
class Recipe:
    """A complete, checked recipe. `values` maps each field of its method to its value, `origin` to where it
    came from.

    `origin` holds `default`, `params`, or the recipe file's name. Values are read as attributes too:
    `recipe.beta`.
    """

    method: str
    qlora: bool
    values: Mapping[str, Any]
    origin: Mapping[str, str]
    name: str | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON- and TOML-ready form, from which `Recipe.from_dict` makes the same recipe again."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in self.values.items() if v is not None}
        return {
            "method": self.method,
            "qlora": self.qlora,
            **({"name": self.name} if self.name else {}),
            "params": plain,
            "origin": dict(self.origin),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from `to_dict`'s form, checking every value again. Raises `RecipeError`."""
        again = resolve(data["method"], bool(data["qlora"]), dict(data["params"]))
        return cls(
            again.method, again.qlora, again.values, dict(data.get("origin", again.origin)), data.get("name")
        )

    def explain(self) -> str:
        """Return one line per field: name, value, where it came from."""
        width = max(map(len, self.values))
        return "\n".join(f"{k:<{width}}  {v!r:<24} {self.origin[k]}" for k, v in self.values.items())


def resolve(
    method: str,
    qlora: bool = False,
    params: Mapping[str, Any] | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the complete recipe for `method`: defaults, `settings`, the recipe file, then `params`.

    `recipe` is the name of a file in `align/recipes` (see `names`) or a path. Raises `RecipeError` naming
    the field, its value and what is accepted, for an unknown field, a value out of range, or a setting that
    vLLM cannot serve.
    """
    if method not in METHODS:
        raise RecipeError("method", method, "one of " + ", ".join(METHODS))
    values = defaults(method)
    origin = dict.fromkeys(values, "default")
    _apply(values, origin, method, settings or {}, "settings")
    name = None
    if recipe is not None:
        name, table = load(recipe)
        wanted = table.pop("method", method)
        if wanted != method:
            raise RecipeError("recipe", name, f"a recipe for {method}; this one is for {wanted}")
        qlora = bool(table.pop("qlora", False)) or qlora
        _apply(values, origin, method, table, name)
    _apply(values, origin, method, params or {}, "params")
    _check_together(method, values)
    return Recipe(method, bool(qlora), values, origin, name)


def with_flip_rate(recipe: Recipe, agreement: Mapping[str, Any] | None) -> tuple[Recipe, str]:
    """Return the recipe with `label_smoothing` "auto" replaced by what raters' agreement says, and a note (else "").

    `agreement` is the part of a snapshot's report: `same`, the share of `judged_twice` pairs of votes on the same
    comparison that agree. Two raters who each err alone with probability e agree with a = (1 - e)^2 + e^2, so
    e = (1 - sqrt(2 a - 1)) / 2. With fewer than `MIN_JUDGED_TWICE` such pairs the
    rate is `DEFAULT_FLIP_RATE`; it is never above `MAX_FLIP_RATE`.
    """
    if recipe.values.get("label_smoothing") != "auto":
        return recipe, ""
    judged = int((agreement or {}).get("judged_twice") or 0)
    if agreement is None or judged < MIN_JUDGED_TWICE:
        rate = DEFAULT_FLIP_RATE
        note = f"label_smoothing = {rate} assumed: {judged} pairs of votes on the same comparison are too few to tell"
    else:
        same = float(agreement["same"])
        rate = (1 - math.sqrt(max(0.0, 2 * same - 1))) / 2
        rate = round(min(MAX_FLIP_RATE, max(MIN_FLIP_RATE, rate)), 4)
        note = f"label_smoothing = {rate}: {same:.0%} of {judged} pairs of votes on the same comparison agree"
    values = {**recipe.values, "label_smoothing": rate}
    origin = {**recipe.origin, "label_smoothing": "raters' agreement"}
    return Recipe(recipe.method, recipe.qlora, values, origin, recipe.name), note


def with_passes(recipe: Recipe, rows: int) -> tuple[Recipe, str]:
    """Return the recipe with "auto" passes and accumulation replaced by what `rows` to train on need, and a note (else "").

    A few dozen rows give too few steps in one pass to learn anything: they get small steps and several passes. With
    thousands one pass is enough.
    """
    automatic = [
        name
        for name in ("gradient_accumulation_steps", "num_train_epochs")
        if recipe.values.get(name) == "auto"
    ]
    if not automatic:
        return recipe, ""
    batch = recipe.per_device_train_batch_size * recipe.num_processes

    def per_pass(accumulation: int) -> int:
        return max(1, math.ceil(math.ceil(rows / batch) / accumulation))

    asked = recipe.num_train_epochs
    accumulation = recipe.gradient_accumulation_steps
    if accumulation == "auto":
        passes = MAX_PASSES if asked == "auto" else asked
        accumulation = ACCUMULATION if per_pass(ACCUMULATION) * passes >= MIN_STEPS else 1
    steps = per_pass(accumulation)
    found = {
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": float(min(MAX_PASSES, max(1, math.ceil(MIN_STEPS / steps)))),
    }
    reason = f"{rows} rows, {steps} steps per pass"
    values = {**recipe.values, **{name: found[name] for name in automatic}}
    origin = {**recipe.origin, **dict.fromkeys(automatic, f"auto: {reason}")}
    note = f"{', '.join(f'{name} = {values[name]:g}' for name in automatic)}: {reason}"
    return Recipe(recipe.method, recipe.qlora, values, origin, recipe.name), note


def cautions(recipe: Recipe) -> list[str]:
    """Return what is accepted and yet seldom meant, as notes for the plan and the report."""
    losses, beta = recipe.values.get("loss_type", ()), recipe.values.get("beta", "auto")
    notes: list[str] = []
    if beta == "auto":
        return notes
    if "ipo" in losses and beta < MIN_IPO_BETA:
        notes.append(
            f"ipo with beta = {beta} aims at a difference of {1 / (2 * beta):g} nats per token, which hardly "
            "holds the model near its reference; beta 1 to 5 does"
        )
    if "sigmoid_norm" in losses and beta < MIN_SIGMOID_NORM_BETA:
        notes.append(
            f"sigmoid_norm with beta = {beta} hardly learns, since it counts log ratios per token; beta 2 to 10 does"
        )
    return notes


def reference() -> str:
    """Return every field as a Markdown table: what docs/training.md holds, which a test compares."""
    rows = ["| field | default | accepted | meaning |", "| --- | --- | --- | --- |"]
    by_method = {method: defaults(method) for method in METHODS}
    for name, field in FIELDS.items():
        methods = methods_of(name)
        shown = {method: _plain(by_method[method][name]) for method in methods}
        different = list(dict.fromkeys(map(str, shown.values())))
        default = different[0] if len(different) == 1 else ", ".join(f"{m}: {v}" for m, v in shown.items())
        only = "" if methods == METHODS else f" ({', '.join(methods)} only)"
        rows.append(f"| `{name}` | {default} | {accepted(name)} | {field.description}{only} |")
    rows += ["", "Refused, because the engine could not serve the result:", ""]
    rows += [f"* `{name}`: accepted is {accepted}" for name, accepted in REFUSED.items()]
    return "\n".join(rows) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "unset" if value in (None, {}) else str(value).lower() if isinstance(value, bool) else value


def names() -> list[str]:
    """Return the names of the recipes that come with `align`."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def about(name: str) -> str:
    """Return what a recipe of `names` is for: the first sentence of its file."""
    text = (_folder() / f"{name}.toml").read_text()
    words = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    return words.split(". ")[0].rstrip(".") + "."


def load(recipe: str | Path) -> tuple[str, dict[str, Any]]:
    """Return name and table of a recipe file. Raises `RecipeError` when there is none or it is not TOML."""
    path = Path(recipe)
    if path.suffix != ".toml":
        if str(recipe) not in names():
            raise RecipeError("recipe", str(recipe), "a path to a .toml file or one of " + ", ".join(names()))
        path = Path(str(_folder())) / f"{recipe}.toml"
    try:
        return path.stem, tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise RecipeError("recipe", str(recipe), "a file that exists") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError("recipe", str(recipe), f"valid TOML ({error})") from error


def _folder() -> Any:
    return resources.files("align") / "recipes"


def _apply(
    values: dict[str, Any], origin: dict[str, str], method: str, given: Mapping[str, Any], source: str
) -> None:
    for name, value in given.items():
        if name in REFUSED:
            if not value or value in HARMLESS.get(name, ()):
                continue
            raise RecipeError(name, value, REFUSED[name])
        if name not in values:
            raise RecipeError(name, value, f"a field of {method}: " + ", ".join(values))
        try:
            values[name] = validated(name, value)
        except (ValueError, TypeError, OverflowError):
            raise RecipeError(name, value, accepted(name)) from None
        origin[name] = source


def _check_together(method: str, values: dict[str, Any]) -> None:
    if "loss_type" not in values:
        return
    weights, losses = values["loss_weights"], values["loss_type"]
    if weights is not None and len(weights) != len(losses):
        raise RecipeError(
            "loss_weights", list(weights), f"{len(losses)} numbers, one for each of {list(losses)}"
        )
    if values["label_smoothing"] != 0 and not set(losses) & set(SMOOTHED_LOSSES):
        raise RecipeError(
            "label_smoothing",
            values["label_smoothing"],
            f"0 with loss_type {list(losses)}, which ignores it; or a loss_type of {', '.join(SMOOTHED_LOSSES)}",
        )
    if "exo_pair" in losses and values["label_smoothing"] == 0:
        raise RecipeError(
            "label_smoothing", 0.0, "a number above 0 with loss_type 'exo_pair' (its paper: 1e-3)"
        )
