"""May this adapter directory be shown to an engine?

vLLM loads some adapters that it should not: one with a NaN silences every model of the engine, a layer that
does not exist is ignored in silence, another base of the same shape is not noticed. So each rule is checked
here, before an engine sees the directory. Reads files only; knows no engine and imports no torch.

Not covered: shapes of modules whose size does not follow from a Llama-like `config.json` (the engine checks
those and refuses cleanly), and mixture-of-experts weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.errors import AdapterRefused
from serve.safetensors_file import TensorInfo, finite, read_header

CONFIG, WEIGHTS, TEMPLATE = "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
NAME = re.compile(r"a-[0-9a-f]{16}")
# Initialisations that only set the adapter's own first weights (vLLM refuses those that change the base
# model).
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
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
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a checked adapter is.

    `hash` is its id and its name on every engine (`a-` and 16 hexadecimal digits over what decides its
    outputs), `rank` the largest of any module, `tensors` and `bytes` the count and size of its weights,
    `scale` the factor (lora_alpha / r, or over the root of r for rsLoRA).
    """

    hash: str
    rank: int
    tensors: int
    bytes: int
    target_modules: tuple[str, ...]
    scale: float


def check(
    directory: Path, base_config: Mapping[str, Any], max_rank: int, base_dir: Path | None = None
) -> AdapterFacts:
    """Check a PEFT LoRA directory against a base model's `config.json` and an engine's `max_lora_rank`.

    `base_dir`, where the base model is a local directory, adds the comparison of chat templates. Raises
    `AdapterRefused`, whose text names the file, key or tensor and what is accepted. Reads the whole weights
    file once (blocking; about a second a gigabyte).
    """
    _check_files(directory)
    config = _read_config(directory / CONFIG)
    ranks = _check_config(config, max_rank)
    _check_base(config, base_config)
    if base_dir is not None:
        _check_template(directory / TEMPLATE, base_dir / TEMPLATE)
    weights = directory / WEIGHTS
    header = read_header(weights)
    modules = _check_tensors(header, config, ranks, base_config)
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


def _check_files(directory: Path) -> None:
    if not directory.is_dir():
        raise AdapterRefused(f"{directory} is not a directory")
    root = directory.resolve()
    for path in sorted(directory.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise AdapterRefused(f"{path.name} is a link to a path outside the adapter directory")
        if path.suffix.lower() in PICKLES:
            raise AdapterRefused(
                f"{path.name} is a pickle file, which can run code when it is read; accepted: {WEIGHTS}"
            )
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise AdapterRefused(f"{name} is missing; a PEFT LoRA directory holds {CONFIG} and {WEIGHTS}")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise AdapterRefused(f"{CONFIG} can not be read as JSON: {error}") from error
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
    if not isinstance(config.get("lora_alpha"), int | float) or isinstance(config["lora_alpha"], bool):
        raise AdapterRefused(f"{CONFIG}: lora_alpha is {config.get('lora_alpha')!r}; accepted: a number")
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
    config: Mapping[str, Any],
    ranks: Mapping[str, int],
    base_config: Mapping[str, Any],
) -> dict[str, int]:
    """Check names and shapes; returns the rank of each module."""
    sides: dict[str, dict[str, TensorInfo]] = {}
    for name, info in header.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise AdapterRefused(
                f"{WEIGHTS}: tensor {name} is not a LoRA weight; "
                "accepted: base_model.model.<module>.lora_A.weight and .lora_B.weight"
            )
        sides.setdefault(match["module"], {})[match["side"]] = info
    if not sides:
        raise AdapterRefused(f"{WEIGHTS} holds no tensors")
    layers = base_config.get("num_hidden_layers")
    found: dict[str, int] = {}
    for module, pair in sides.items():
        if missing := {"A", "B"} - pair.keys():
            raise AdapterRefused(f"{WEIGHTS}: module {module} has no lora_{missing.pop()}")
        layer = _LAYER.search(module)
        if layer and isinstance(layers, int) and int(layer[1]) >= layers:
            raise AdapterRefused(
                f"{WEIGHTS}: {module} is outside the base model, whose layers are 0 to {layers - 1}"
            )
        rank = _rank_of(module, ranks)
        outer = _base_shape(module.rsplit(".", 1)[-1], base_config)
        _check_shape(module, "A", pair["A"], (rank, outer[1] if outer else None))
        _check_shape(module, "B", pair["B"], (outer[0] if outer else None, rank))
        found[module] = rank
    return found


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
    dense = not any(base.get(key) for key in ("num_local_experts", "num_experts", "n_routed_experts"))
    return shapes.get(name) if dense and base.get("model_type") in DENSE_TYPES else None


# Families whose projections have the sizes that `_base_shape` computes.
DENSE_TYPES = {"llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3", "granite"}
