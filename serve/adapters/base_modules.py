"""The modules of a base model that LoRA adapters may touch, by their full names, and which of them an adapter targets.

PEFT and vLLM both pass over tensors of modules that they do not know, so an adapter with other names would be served as the
plain base without a word. Read from the headers of the base's weights; imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.engine.lora_targets import IN_A_BLOCK, read_shapes

Shape = tuple[int, int] | None
# Weights of quantised layers: their shape is that of a packed form.
_PACKED = (".qweight", ".weight_packed", ".weight_quantized")
# What transformers puts before the names of weights that were saved without the model's head.
_HEADLESS = re.compile(r"^(?:model|transformer|gpt_neox|backbone)\.(?=\w+\.\d+\.)")
# transformers reads both orders for models that wrap a language model.
_WRAPPED = re.compile(r"^language_model\.model\.")


@dataclass(frozen=True, slots=True)
class BaseModules:
    """Linear layers by full name, each with (out, in), or None where the weights are packed.

    `inside` are those inside the blocks, which the engine adapts; `others` are all other matrices, such as the output
    head and the embedding.
    """

    inside: Mapping[str, Shape]
    others: frozenset[str]

    def find(self, module: str) -> str | None:
        """Return the name of the base's weights for an adapter's module, None when the engine adapts no such module."""
        if module in self.inside:
            return module
        swapped = _WRAPPED.sub("model.language_model.", module)
        if swapped in self.inside:
            return swapped
        rest = _HEADLESS.sub("", module)
        return rest if rest in self.inside else None

    def near(self, module: str) -> str | None:
        """Return the base's module that ends like `module`, to be named in a refusal."""
        tail = _tail(module)
        return next((name for name in self.inside if _tail(name) == tail), None)


def read_base_modules(model_dir: Path) -> BaseModules | None:
    """Return the modules of a Hugging Face directory, None when it has no safetensors."""
    inside: dict[str, Shape] = {}
    others: set[str] = set()
    for tensor, shape in read_shapes(model_dir).items():
        packed = next((ending for ending in _PACKED if tensor.endswith(ending)), None)
        if packed:
            inside[_canonical(tensor.removesuffix(packed))] = None
        elif tensor.endswith(".weight") and len(shape.size) == 2:
            name = _canonical(tensor.removesuffix(".weight"))
            if IN_A_BLOCK.search(tensor):
                inside[name] = (shape.size[0], shape.size[1]) if shape.is_float else None
            else:
                others.add(name)
    return BaseModules(inside, frozenset(others)) if inside else None


def _canonical(name: str) -> str:
    return _WRAPPED.sub("model.language_model.", name)


def _tail(module: str) -> str:
    """Return the name from the number of the block on: `3.self_attn.q_proj`."""
    found = re.search(r"(?:^|\.)(\d+\..+)$", module)
    return found[1] if found else module.rsplit(".", 1)[-1]


def targeted(config: Mapping[str, Any], modules: Iterable[str]) -> set[str]:
    """Return those of `modules` that PEFT adapts by `target_modules`, `exclude_modules`, `layers_to_transform`."""
    return {name for name in modules if _is_targeted(config, name)}


def unmatched(config: Mapping[str, Any], modules: Collection[str]) -> list[str]:
    """Return the entries of a list `target_modules` that name none of `modules`."""
    target = config.get("target_modules")
    if not isinstance(target, list | tuple):
        return []
    return [entry for entry in target if not any(_ends_with(name, [entry]) for name in modules)]


def _is_targeted(config: Mapping[str, Any], name: str) -> bool:
    exclude = config.get("exclude_modules")
    if exclude and _matches(exclude, name):
        return False
    target = config.get("target_modules") or ()
    if target == "all-linear":
        return True
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return name in target or (_ends_with(name, target) and _in_layers(config, name))


def _in_layers(config: Mapping[str, Any], name: str) -> bool:
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    wanted = [layers] if isinstance(layers, int) else list(layers)
    patterns = config.get("layers_pattern") or []
    patterns = [patterns] if isinstance(patterns, str) else patterns
    searches = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in patterns] or [r".*?\.[^.]*\.(\d+)\."]
    number = next((found for search in searches if (found := re.match(search, name))), None)
    return number is not None and int(number[1]) in wanted


def _matches(target: str | Collection[str], name: str) -> bool:
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return _ends_with(name, target)


def _ends_with(name: str, entries: Collection[str]) -> bool:
    return any(name == entry or name.endswith(f".{entry}") for entry in entries)
