"""Base model, adapter and tokenizer as the recipe wants them, on the device there is.

Uses transformers, PEFT and bitsandbytes; has no data and no loss.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from align.errors import ModelError, OutOfMemory, RecipeError
from align.recipe.auto import ORIGIN
from align.recipe.recipe import Recipe
from align.training.attention import attention_arguments
from align.training.memory.running_out import HINT_LOADING, HINT_LOADING_QLORA, ran_out
from common.architecture import in_experts, in_tower

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Hardware:
    """What the worker decided for the values that a recipe leaves to it."""

    device: str
    dtype: torch.dtype
    optim: str
    gradient_checkpointing: bool

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {**vars(self), "dtype": str(self.dtype).removeprefix("torch.")}


def choose(recipe: Recipe) -> Hardware:
    """Decide dtype, optimiser and recomputation for this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, recipe.dtype) if recipe.dtype != "auto" else None
    if dtype is None:
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
    optim = recipe.optim
    if optim == "auto":
        optim = "adamw_8bit" if recipe.qlora else "adamw_torch"
    checkpointing = recipe.gradient_checkpointing
    if checkpointing == "auto":
        checkpointing = device == "cuda"
    return Hardware(device, dtype, optim, checkpointing)


def load_tokenizer(path: str) -> Any:
    """Load the tokenizer of a model directory. Raises `ModelError` without a chat template."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"the tokenizer of {path} cannot be loaded: {error}") from error
    if not tokenizer.chat_template:
        raise ModelError(f"{path} has no chat template", "use an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(path: str, recipe: Recipe, hardware: Hardware) -> PreTrainedModel:
    """Load the base model frozen, quantised to 4 bits when the recipe says so. Raises `ModelError`."""
    kwargs: dict[str, Any] = {"dtype": hardware.dtype}
    if recipe.qlora:
        kwargs["quantization_config"] = quantization(recipe, hardware)
        # of several processes each has a card of its own
        kwargs["device_map"] = {"": torch.cuda.current_device() if hardware.device == "cuda" else "cpu"}
    try:
        model = AutoModelForCausalLM.from_pretrained(path, **attention_arguments(path), **kwargs)
        if not recipe.qlora:
            model = model.to(hardware.device)
    except (OSError, ValueError) as error:
        raise ModelError(f"the base model {path} cannot be loaded: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if (why := ran_out(error)) is None:
            raise
        hint = HINT_LOADING_QLORA if recipe.qlora else HINT_LOADING
        raise OutOfMemory(f"the weights of the base model do not fit ({why})", hint) from error
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def quantization(recipe: Recipe, hardware: Hardware) -> BitsAndBytesConfig:
    """Return the 4-bit settings of a QLoRA recipe (2305.14314: NF4, double quantisation)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=recipe.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=recipe.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=hardware.dtype,
        # FSDP shards floats only; the bytes are the same.
        bnb_4bit_quant_storage=hardware.dtype if sharded(recipe) else torch.uint8,
    )


def sharded(recipe: Recipe) -> bool:
    """Return whether the recipe spreads the model over several processes (FSDP)."""
    return bool(recipe.num_processes > 1 and recipe.distributed == "fsdp")


def lora_config(recipe: Recipe, base: torch.nn.Module | None = None) -> LoraConfig:
    """Return PEFT's configuration of a new adapter, for a base whose experts are left out."""
    modules = recipe.target_modules
    if base is not None and modules == ALL_LINEAR:
        modules = all_linear(base)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        use_rslora=recipe.use_rslora,
        init_lora_weights=recipe.init_lora_weights,
        rank_pattern=dict(recipe.rank_pattern),
        alpha_pattern=dict(recipe.alpha_pattern),
        bias="none",
    )


def all_linear(base: torch.nn.Module) -> str | list[str]:
    """Return what "all-linear" means for `base`: without the experts of a mixture, and without towers for images or sound.

    PEFT adapts experts as parameters of their own, in a form that vLLM does not load; a router that moves changes which
    experts answer; and vLLM adapts the language model alone. Names that experts and other layers share are left out too.
    """
    names = [name for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)]
    others = [name for name, _ in base.named_modules() if in_tower(name)]
    if not others and not any(in_experts(name) for name, _ in base.named_modules()):
        return ALL_LINEAR
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    of_experts = {_kind(name) for name in names if in_experts(name)}
    kept = [
        name
        for name in names
        if not in_tower(name) and _kind(name) not in of_experts and base.get_submodule(name) is not head
    ]
    kinds = {_kind(name) for name in kept}
    return sorted(kept if kinds & {_kind(name) for name in others} else kinds)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def add_adapter(
    base: PreTrainedModel, recipe: Recipe, start: str | None, max_rank: int | None = None
) -> PeftModel:
    """Put a trainable adapter on `base`: a new one, or a copy of the one in the directory `start`.

    Adapter weights are float32, whatever the base's type, unless the GPU computes in autocast with them.
    Raises `RecipeError` when a setting given explicitly contradicts `start` or the engine's `max_rank`,
    `ModelError` when `start` cannot be loaded.
    """
    if start is None:
        torch.manual_seed(recipe.seed)
        try:
            model = get_peft_model(base, lora_config(recipe, base))
        except ValueError as error:
            raise RecipeError(
                "target_modules", recipe.target_modules, f"modules of this model ({error})"
            ) from error
    else:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Found missing adapter keys")
                model = PeftModel.from_pretrained(base, start, is_trainable=True)
        except UserWarning as error:
            raise ModelError(f"the start adapter {start} lacks weights of this model", str(error)) from error
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"the start adapter {start} cannot be loaded: {error}") from error
        _same_shape(recipe, model.peft_config["default"])
    config = model.peft_config["default"]
    ranks = [config.r, *config.rank_pattern.values()]
    if max_rank is not None and max(ranks) > max_rank:
        raise RecipeError("r", max(ranks), f"at most {max_rank}, the engine's --max-lora-rank")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _same_shape(recipe: Recipe, config: LoraConfig) -> None:
    have = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "use_rslora": bool(config.use_rslora),
    }
    for name, value in have.items():
        chosen = recipe.origin[name] == "default" or recipe.origin[name].startswith(ORIGIN)
        if not chosen and getattr(recipe, name) != value:
            raise RecipeError(
                name, getattr(recipe, name), f"{value}, as in the adapter that training goes on from"
            )


def without_dropout(model: torch.nn.Module) -> None:
    """Put `model` in evaluation mode, but for 4-bit layers: theirs is coarser on the CPU than what training
    computes, by some hundredths per layer, and reference and policy must be computed alike."""
    model.eval()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.train()


def trainable_parameters(model: torch.nn.Module) -> int:
    """Count the numbers that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_adapter(model: PeftModel, directory: Path, base_name: str) -> None:
    """Write the adapter `default` in PEFT's format. Raises `ModelError` when a weight is not finite."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise ModelError(f"the trained weight {name} is not finite", "lower learning_rate")
    model.peft_config["default"].base_model_name_or_path = base_name
    model.save_pretrained(directory, selected_adapters=["default"])


def base_identity(path: str, recipe: Recipe) -> str:
    """Return a hash that changes when the weights, their quantisation or the compute type change.

    Reads the configuration and 64 samples of 64 KiB of each weight file, not all of it.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([recipe.qlora, recipe.dtype, str(torch.cuda.is_available())]).encode())
    if recipe.qlora:
        digest.update(json.dumps([recipe.bnb_4bit_quant_type, recipe.bnb_4bit_use_double_quant]).encode())
    directory = Path(path)
    for file in sorted([directory / "config.json", *directory.glob("*.safetensors")]):
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            for sample in range(64):
                stream.seek(max(0, (size - 65536) * sample // 63))
                digest.update(stream.read(65536))
    return digest.hexdigest()
