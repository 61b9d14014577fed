"""Whether a base model can be served and trained here, from its small files; each refusal names the field at fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.architecture import is_mixture_of_experts
from common.gpu_cards import has_cuda
from serve.adapters.base_modules import read_base_modules
from serve.engine.output_parsers import chat_template
from trimtab.errors import ModelRefused

ACCEPTED = {
    "architecture": "an architecture that vLLM serves with LoRA and transformers loads without code of its own",
    "chat_template": "a model with a chat template, or --chat-template FILE",
    "tokenizer": "a tokenizer that transformers loads without code of its own",
    "quantization": "weights in float32, bfloat16 or float16; `qlora` quantises them for training",
    "model": "weights as *.safetensors with linear layers that LoRA can adapt",
}


@dataclass(frozen=True)
class Checked:
    """What was found: type, count of parameters, and the full names of the modules that get an adapter."""

    model_type: str
    parameters: int
    modules: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the adapted layers inside a block, such as `q_proj`."""
        return tuple(sorted({module.rsplit(".", 1)[-1] for module in self.modules}))


def check_files(directory: Path) -> Checked:
    """Check architecture, tokenizer and template of a directory; its weights may be missing. Raises `ModelRefused`.

    Takes as long as importing vLLM and torch, twice and side by side.
    """
    config = read_config(directory)
    names = config.get("architectures") or []
    if not isinstance(names, list) or not names:
        raise _refused("architecture", "config.json names no `architectures`")
    if not chat_template(directory):
        raise _refused("chat_template", "the model has none")
    if not has_cuda() and is_mixture_of_experts(config):
        raise _refused(
            "architecture", f"{names[0]} is a mixture of experts, which vLLM serves with LoRA on a GPU alone"
        )
    if not any(_may_be_known(str(name)) for name in names):
        raise _refused("architecture", f"{names[0]} is not served by this vLLM")
    served = _start("serve.vllm_plugin.architectures", *map(str, names))
    trained = _start("align.trainable", str(directory))
    known, found = _result(served), _result(trained)
    able = [name for name in names if known[name]["served"]]
    if not able:
        raise _refused("architecture", f"{names[0]} is not served by this vLLM: {known[names[0]]['why']}")
    if not any(known[name]["lora"] for name in able):
        raise _refused(
            "architecture", f"vLLM serves {able[0]} without LoRA, so no adapter could be published"
        )
    if "error" in found:
        raise _refused(str(found["field"]), str(found["error"]))
    return Checked(str(found["model_type"]), int(found["parameters"]), tuple(found["modules"]))


def _may_be_known(architecture: str) -> bool:
    """Return False for a name that vLLM's registry does not mention, which saves importing vLLM to refuse it."""
    plugins = entry_points(group="vllm.general_plugins")
    if any(not plugin.value.startswith(("serve.", "vllm.")) for plugin in plugins):
        return True  # others may register architectures of their own
    found = find_spec("vllm")
    registry = (
        Path(found.origin).parent / "model_executor/models/registry.py" if found and found.origin else None
    )
    return registry is None or not registry.is_file() or f'"{architecture}"' in registry.read_text("utf-8")


def check_weights(directory: Path, checked: Checked) -> None:
    """Check that the engine adapts each layer that training would. Raises `ModelRefused`."""
    base = read_base_modules(directory)
    if base is None:
        raise _refused("model", f"{directory} has no linear layers in safetensors files")
    missing = [module for module in checked.modules if base.find(module) is None]
    if missing:
        raise _refused(
            "architecture",
            f"its weights have no {missing[0]}, which training would adapt ({len(missing)} of {len(checked.modules)})",
        )


def read_config(directory: Path) -> dict[str, Any]:
    """Return `config.json` of a directory. Raises `ModelRefused`."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _refused(
            "model", f"{directory} is not a Hugging Face model directory: it has no config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise _refused("model", f"config.json of {directory} can't be read ({error})") from error
    if not isinstance(config, dict):
        raise _refused("model", f"config.json of {directory} is no JSON object")
    return config


def _refused(field: str, why: str) -> ModelRefused:
    return ModelRefused(field, why, ACCEPTED.get(field, ACCEPTED["model"]))


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, said = process.communicate()
    if process.returncode != 0:
        lines: Sequence[str] = said.strip().splitlines() or [f"status {process.returncode}"]
        raise _refused("model", f"it could not be checked: {lines[-1]}")
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found
