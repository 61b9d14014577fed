"""May this adapter directory be shown to an engine?

vLLM loads some adapters that it should not: one with a NaN silences every model of the engine, a module that
does not exist is ignored in silence, another base of the same shape is not noticed. So each rule is checked
here, before an engine sees the directory. Reads files only; calls no engine and imports no torch.

Not covered: names and shapes of modules where the base is no local directory (the engine checks shapes and
refuses cleanly, parity the rest), and mixture-of-experts weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.architecture import is_mixture_of_experts
from common.lora import PLAIN_INITS
from serve.adapters.base_modules import BaseModules, Shape, read_base_modules, targeted, unmatched
from serve.adapters.files import CONFIG, TEMPLATE, WEIGHTS, check_files
from serve.errors import AdapterRefused
from serve.safetensors_file import TensorInfo, finite, has_values, read_header

NAME = re.compile(r"a-[0-9a-f]{16}")
MUST_BE_OFF = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "target_parameters",
    "trainable_token_indices",
)
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a checked adapter is.

    `hash` is its id and its name on every engine (`a-` and 16 hexadecimal digits over what decides its
    outputs), `rank` the largest of any module, `tensors` and `bytes` the count and size of its weights,
    `scale` the factor (lora_alpha / r, or over the root of r for rsLoRA). `is_zero` says that it changes nothing,
    since in each module one of both factors is zero, as before the first step of training.
    """

    hash: str
    rank: int
    tensors: int
    bytes: int
    target_modules: tuple[str, ...]
    scale: float
    is_zero: bool = False


def check(
    directory: Path, base_config: Mapping[str, Any], max_rank: int, base_dir: Path | None = None
) -> AdapterFacts:
    """Check a PEFT LoRA directory against a base model's `config.json` and an engine's `max_lora_rank`.

    `base_dir`, where the base model is a local directory, adds the comparison of chat templates and of the names
    and shapes of modules. Raises `AdapterRefused`, whose text names the file, key or tensor and what is accepted.
    Reads the whole weights file (blocking; about one second per gigabyte).
    """
    check_files(directory)
    config = _read_config(directory / CONFIG)
    ranks = _check_config(config, max_rank)
    _check_base(config, base_config)
    base = None
    if base_dir is not None:
        _check_template(directory / TEMPLATE, base_dir / TEMPLATE)
        base = read_base_modules(base_dir)
    weights = directory / WEIGHTS
    header = read_header(weights)
    modules = _check_tensors(header, ranks, base_config, base)
    if base is not None:
        _check_targets(config, modules, base)
    for name, info in header.items():
        if not finite(weights, info):
            raise AdapterRefused(f"{WEIGHTS}: tensor {name} holds NaN or infinite values")
    rank = max(modules.values())
    return AdapterFacts(
        content_hash(config, weights),
        rank,
        len(header),
        weights.stat().st_size,
        tuple(sorted({module.rsplit(".", 1)[-1] for module in modules})),
        float(config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank),
        _is_zero(weights, header, modules),
    )


def content_hash(config: Mapping[str, Any], weights: Path) -> str:
    """Return `a-<16 hex>`: SHA-256 over the settings that decide the adapter's outputs and the weights
    file."""
    kept = {
        key: config.get(key) for key in ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
    }
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    with weights.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return f"a-{digest.hexdigest()[:16]}"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise AdapterRefused(f"{CONFIG} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise AdapterRefused(f"{CONFIG} must be a JSON object")
    return config


def _check_config(config: dict[str, Any], max_rank: int) -> dict[str, int]:
    """Check the settings; returns the rank of each pattern, with the plain rank under the empty pattern."""
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"{CONFIG}: peft_type is {config.get('peft_type')!r}; accepted: 'LORA'")
    for key in MUST_BE_OFF:
        if config.get(key):
            raise AdapterRefused(f"{CONFIG}: {key} is set, which vLLM does not serve; accepted: off")
    if config.get("bias", "none") != "none":
        raise AdapterRefused(f"{CONFIG}: bias is {config['bias']!r}; accepted: 'none'")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        raise AdapterRefused(
            f"{CONFIG}: init_lora_weights {init!r} changes the base model's weights, so the adapter means "
            f"nothing on the served base; accepted: true, false, {', '.join(PLAIN_INITS)} "
            "(PEFT converts on save with path_initial_model_for_weight_conversion)"
        )
    ranks = {"": config.get("r"), **(config.get("rank_pattern") or {})}
    for pattern, rank in ranks.items():
        where = f"rank_pattern[{pattern!r}]" if pattern else "r"
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise AdapterRefused(
                f"{CONFIG}: {where} is {rank!r}; accepted: a whole number from 1 to {max_rank}"
            )
        if rank > max_rank:
            raise AdapterRefused(
                f"{CONFIG}: {where} is {rank}, above this engine's max_lora_rank; accepted: 1 to {max_rank}"
            )
    alphas = {"lora_alpha": config.get("lora_alpha")}
    alphas |= {
        f"alpha_pattern[{name!r}]": value for name, value in (config.get("alpha_pattern") or {}).items()
    }
    for where, alpha in alphas.items():
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
            raise AdapterRefused(f"{CONFIG}: {where} is {alpha!r}; accepted: a number")
    return ranks


def _check_base(config: dict[str, Any], base_config: Mapping[str, Any]) -> None:
    trained_on = config.get("base_model_name_or_path")
    own_config = Path(str(trained_on)) / "config.json" if trained_on else None
    if own_config is None or not own_config.is_file():
        return  # a hub id or a directory of another machine: only the shapes can tell
    other = json.loads(own_config.read_text(encoding="utf-8"))
    for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"):
        if other.get(key) != base_config.get(key):
            raise AdapterRefused(
                f"the adapter was trained on {trained_on}, whose {key} is {other.get(key)!r}; "
                f"this base model has {base_config.get(key)!r}"
            )


def _check_template(own: Path, base: Path) -> None:
    if own.is_file() and base.is_file() and own.read_bytes().strip() != base.read_bytes().strip():
        raise AdapterRefused(
            f"{TEMPLATE} differs from the base model's: the adapter was trained on another chat format"
        )


def _check_tensors(
    header: Mapping[str, TensorInfo],
    ranks: Mapping[str, int],
    base_config: Mapping[str, Any],
    base: BaseModules | None,
) -> dict[str, int]:
    """Check names and shapes; returns the rank of each module."""
    layers = base_config.get("num_hidden_layers")
    found: dict[str, int] = {}
    for module, pair in _pairs(header).items():
        if missing := {"A", "B"} - pair.keys():
            raise AdapterRefused(f"{WEIGHTS}: module {module} has no lora_{missing.pop()}")
        layer = _LAYER.search(module)
        if layer and isinstance(layers, int) and int(layer[1]) >= layers:
            raise AdapterRefused(
                f"{WEIGHTS}: {module} is outside the base model, whose layers are 0 to {layers - 1}"
            )
        shape = _base_shape(module.rsplit(".", 1)[-1], base_config)
        if base is not None:
            shape = _stored_shape(module, base) or shape
        rank = _rank_of(module, ranks)
        swapped = (
            shape is not None and base_config.get("model_type") == "gpt2"
        )  # whose layers store (in, out)
        outs, ins = (shape[::-1] if swapped and shape else shape) or (None, None)
        _check_shape(module, "A", pair["A"], (rank, ins))
        _check_shape(module, "B", pair["B"], (outs, rank))
        found[module] = rank
    return found


def _pairs(header: Mapping[str, TensorInfo]) -> dict[str, dict[str, TensorInfo]]:
    """Return both factors of each module."""
    sides: dict[str, dict[str, TensorInfo]] = {}
    for name, info in header.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise AdapterRefused(
                f"{WEIGHTS}: tensor {name} is not a LoRA weight of a linear layer; "
                "accepted: base_model.model.<module>.lora_A.weight and .lora_B.weight"
            )
        sides.setdefault(match["module"], {})[match["side"]] = info
    if not sides:
        raise AdapterRefused(f"{WEIGHTS} holds no tensors")
    return sides


def _stored_shape(module: str, base: BaseModules) -> Shape:
    """Return the shape of the base's weights; raises `AdapterRefused` for a module that the engine does not adapt."""
    name = base.find(module)
    if name is not None:
        return base.inside[name]
    if module in base.others or module == "lm_head":
        kinds = sorted({name.rsplit(".", 1)[-1] for name in base.inside})
        raise AdapterRefused(
            f"{WEIGHTS}: {module} is outside the blocks of the base model, where the engine adapts nothing; "
            f"accepted: {', '.join(kinds)}"
        )
    near = base.near(module) or min(base.inside)
    raise AdapterRefused(
        f"{WEIGHTS}: the base model has no module {module}, so its weights would be ignored; accepted: modules of the "
        f"base by their full name, such as {near}"
    )


def _check_targets(config: Mapping[str, Any], modules: Mapping[str, int], base: BaseModules) -> None:
    """Refuse weights that `target_modules` does not name, which PEFT ignores, and targets without weights."""
    names = {base.find(module) or module: module for module in modules}
    try:
        own = targeted(config, modules)
        # Experts are one parameter to transformers and many matrices on disk.
        wanted = targeted(config, (name for name in base.inside if ".experts." not in name))
        strange = unmatched(config, {*base.inside, *base.others, *modules})
    except (re.error, TypeError) as error:
        raise AdapterRefused(f"{CONFIG}: target_modules cannot be read: {error}") from error
    if ignored := sorted(set(modules) - own):
        raise AdapterRefused(
            f"{WEIGHTS}: {ignored[0]} has weights{_and_more(ignored)}, but target_modules of {CONFIG} does not name it, "
            "so PEFT ignores them; accepted: weights of the modules of target_modules"
        )
    if lacking := sorted(wanted - names.keys()):
        raise AdapterRefused(
            f"{WEIGHTS} has no weights for {lacking[0]}{_and_more(lacking)}, which target_modules of {CONFIG} names; "
            "accepted: weights for each of its modules"
        )
    if strange:
        raise AdapterRefused(
            f"{CONFIG}: target_modules names {', '.join(strange)}, and the base model has no such module; "
            f"accepted: {', '.join(sorted({name.rsplit('.', 1)[-1] for name in base.inside}))}"
        )


def _and_more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _is_zero(weights: Path, header: Mapping[str, TensorInfo], modules: Iterable[str]) -> bool:
    """Tell whether one factor of each module is zero. Stops at the first module of which none is."""
    pairs = _pairs(header)
    return not any(all(has_values(weights, pairs[module][side]) for side in "BA") for module in modules)


def _check_shape(module: str, side: str, info: TensorInfo, expected: tuple[int | None, int | None]) -> None:
    fits = len(info.shape) == 2 and all(
        want is None or want == size for want, size in zip(expected, info.shape, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if n is None else str(n) for n in expected)
        raise AdapterRefused(
            f"{WEIGHTS}: {module}.lora_{side} has shape {list(info.shape)}; "
            f"this base model and rank need {wanted}"
        )


def _rank_of(module: str, ranks: Mapping[str, int]) -> int:
    """PEFT's rule: the first pattern that matches the end of the name at a dot decides."""
    for pattern, rank in ranks.items():
        if pattern and re.match(rf"(.*\.)?({pattern})$", module):
            return rank
    return ranks[""]


def _base_shape(name: str, base: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (out, in) of a linear layer as a Llama-like configuration implies it, None where it does not."""
    hidden, heads = base.get("hidden_size"), base.get("num_attention_heads")
    if not hidden or not heads or not base.get("intermediate_size"):
        return None
    size = int(base.get("head_dim") or hidden // heads)
    q, kv, inner = (
        heads * size,
        int(base.get("num_key_value_heads") or heads) * size,
        base["intermediate_size"],
    )
    shapes: dict[str, tuple[int, int]] = {
        "q_proj": (q, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, q),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }
    return (
        shapes.get(name)
        if not is_mixture_of_experts(base) and base.get("model_type") in DENSE_TYPES
        else None
    )


# Families whose projections have the sizes that `_base_shape` computes.
DENSE_TYPES = {"llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3", "granite"}
