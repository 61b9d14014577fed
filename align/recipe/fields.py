"""Every field of a recipe as one pydantic model: type and bounds, default by method, meaning; and what is refused by name.

The one source for validation, messages and documentation. Names are TRL's and PEFT's own. Imports no torch.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic.fields import FieldInfo

from common.lora import PLAIN_INITS
from common.training_methods import METHODS, Method

# vLLM 0.32 accepts these as --max-lora-rank; an adapter's rank may be anything up to the largest.
MAX_RANK = 512

LossType = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "robust",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "sigmoid_norm",
    "sft",
]
LOSS_TYPES: tuple[LossType, ...] = get_args(LossType)
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"]
Optimizer = Literal[
    "auto",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "lion_8bit",
    "adafactor",
    "sgd",
]
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "none")
# PEFT prepares the other plain initialisations from the base's weights or gradients, which the worker doesn't do.
INITS = tuple(name for name in PLAIN_INITS if name not in ("mica", "lora_ga"))
# vLLM serves no adapter on these: extra vocabulary is no longer supported.
UNSERVED_MODULES = ("lm_head", "embed_tokens")


@dataclass(frozen=True)
class Accepted:
    """What a type accepts, in words, where its bounds do not say it."""

    text: str


@dataclass(frozen=True)
class Only:
    """The methods that have a field; without it all have."""

    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Defaults:
    """Defaults of methods that differ from the field's own."""

    by_method: Mapping[Method, Any]


def _whole(value: Any) -> int:
    if isinstance(value, bool | str) or int(value) != value:
        raise ValueError("not a whole number")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise ValueError("not a number")
    return float(value)


def _listed(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, str | Iterable):
        raise ValueError("not a list")
    return (value,) if isinstance(value, str) else tuple(value)


def _distinct(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if not names or len(set(names)) != len(names):
        raise ValueError("empty, or a name twice")
    return names


def _modules(value: Any) -> str | tuple[str, ...]:
    if value == "all-linear":
        return "all-linear"
    listed = value.split(",") if isinstance(value, str) else _listed(value)
    names = tuple(str(name).strip() for name in listed)
    if not names or any(not name.isidentifier() or name in UNSERVED_MODULES for name in names):
        raise ValueError("not module names")
    return names


def _trackers(value: Any) -> tuple[str, ...]:
    names = _listed(value)
    if any(name not in TRACKERS for name in names):
        raise ValueError("an unknown tracker")
    return tuple(name for name in names if name != "none")


def _init(value: Any) -> bool | str:
    if value is not True and value not in INITS:
        raise ValueError("another initialisation")
    found: bool | str = value
    return found


def _pattern(value: Any) -> dict[str, Any]:
    return {str(name): number for name, number in dict(value).items()}


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Rank = Annotated[Whole, Field(ge=1, le=MAX_RANK)]
Alpha = Annotated[Whole, Field(ge=1, le=4096)]
Weight = Annotated[Number, Field(ge=0, le=100)]
LossTypes = Annotated[
    tuple[LossType, ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    Accepted("one or a list of " + ", ".join(LOSS_TYPES)),
]
LossWeights = Annotated[
    tuple[Weight, ...], Accepted("a list of numbers from 0 to 100, one for each loss_type")
]
Modules = Annotated[
    str | tuple[str, ...],
    BeforeValidator(_modules),
    Accepted("'all-linear' or a list of module names such as q_proj, v_proj (not lm_head, not embed_tokens)"),
]
Init = Annotated[
    bool | str,
    BeforeValidator(_init),
    Accepted(f"true or one of {', '.join(INITS)} (vLLM cannot serve PiSSA, OLoRA, CorDA, LoftQ)"),
]
Trackers = Annotated[
    tuple[str, ...], BeforeValidator(_trackers), Accepted("a list of " + ", ".join(TRACKERS))
]
RankPattern = Annotated[
    dict[str, Rank],
    BeforeValidator(_pattern),
    Accepted(f"a table of module name patterns to a whole number from 1 to {MAX_RANK}"),
]
AlphaPattern = Annotated[
    dict[str, Alpha],
    BeforeValidator(_pattern),
    Accepted("a table of module name patterns to a whole number from 1 to 4096"),
]
_PAIRWISE = Only(("dpo",))
_PREFERENCE = Only(("dpo", "kto"))
_LIKES = Only(("kto",))


class RecipeFields(BaseModel):
    """Every field; those that a method has are `defaults(method)`. Assigning validates."""

    model_config = ConfigDict(validate_assignment=True, extra="forbid")

    # Length of the run
    max_steps: Annotated[Whole, Field(ge=1, le=10_000_000)] | Literal[-1] = Field(
        -1, description="optimiser steps; -1: num_train_epochs decides"
    )
    num_train_epochs: Annotated[
        Literal["auto"] | Annotated[Number, Field(gt=0, le=1000)], Defaults({"sft": 2.0, "kto": 1.0})
    ] = Field("auto", description="passes over the data; auto: as many as give 40 steps, 1 to 5")
    # Optimiser
    learning_rate: Literal["auto"] | Annotated[Number, Field(gt=0, le=1)] = Field(
        "auto", description="peak rate; auto: by the base's size and the rows"
    )
    lr_scheduler_type: Scheduler = Field("cosine", description="shape of the rate over the run")
    warmup_steps: Literal["auto"] | Annotated[Number, Field(ge=0, le=1_000_000)] = Field(
        "auto",
        description="less than 1: share of the run; 1 or more: steps; auto: 0.1, and 0 in a run of few steps",
    )
    weight_decay: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.0, description="AdamW's decay of the adapter"
    )
    adam_beta1: Annotated[Number, Field(ge=0, lt=1)] = Field(0.9, description="first moment")
    adam_beta2: Annotated[Number, Field(ge=0, lt=1)] = Field(0.999, description="second moment")
    adam_epsilon: Annotated[Number, Field(gt=0, le=1)] = Field(1e-8, description="added to the denominator")
    max_grad_norm: Annotated[Number, Field(ge=0, le=1000)] = Field(
        1.0, description="clip the gradient's norm; 0: do not clip"
    )
    optim: Optimizer = Field("auto", description="auto: adamw_torch; adamw_8bit with QLoRA")
    # Batches
    per_device_train_batch_size: Annotated[Whole, Field(ge=1, le=4096)] = Field(
        4, description="rows (pairs) per micro-batch"
    )
    gradient_accumulation_steps: Annotated[
        Literal["auto"] | Annotated[Whole, Field(ge=1, le=4096)], Defaults({"sft": 2, "kto": 2})
    ] = Field(
        "auto", description="micro-batches per step; auto: 2, and 1 where rows are too few for 40 steps"
    )
    max_length: Annotated[Whole, Field(ge=16, le=131_072)] = Field(
        1024, description="tokens of prompt and answer; longer answers are cut"
    )
    packing: StrictBool = Field(True, description="compute rows of a micro-batch without padding")
    share_prompt: Annotated[StrictBool, _PAIRWISE] = Field(
        True, description="compute a pair's common prompt once (2410.20305)"
    )
    gradient_checkpointing: Literal["auto"] | StrictBool = Field(
        "auto",
        description="recompute activations: less memory, more time; auto: on CUDA, in the layers that do not fit",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: float32 on the CPU")
    # Method
    beta: Annotated[Literal["auto"] | Annotated[Number, Field(gt=0, le=10)], _PREFERENCE] = Field(
        "auto",
        description="how far the policy may leave its reference; auto: by loss, the base's size and the rows",
    )
    loss_type: Annotated[LossTypes, _PAIRWISE] = Field(
        ("sigmoid",), description="preference loss, or several added"
    )
    loss_weights: Annotated[LossWeights | None, _PAIRWISE] = Field(
        None, description="weight of each loss_type"
    )
    label_smoothing: Annotated[Literal["auto"] | Annotated[Number, Field(ge=0, lt=0.5)], _PAIRWISE] = Field(
        0.0,
        description="share of votes taken to be flipped, for loss_type 'robust' and 'exo_pair'; "
        "auto: from raters' agreement",
    )
    desirable_weight: Annotated[Literal["auto"] | Weight, _LIKES] = Field(
        "auto", description="weight of liked answers; auto: so that they weigh 1 to 4/3 of the disliked ones"
    )
    undesirable_weight: Annotated[Literal["auto"] | Weight, _LIKES] = Field(
        "auto", description="weight of disliked answers; auto: see desirable_weight"
    )
    sft_epochs: Annotated[Number, Field(ge=0, le=100), _PAIRWISE] = Field(
        0.0, description="first train on the chosen answers for so many epochs"
    )
    # Adapter
    r: Rank = Field(16, description="LoRA rank")
    lora_alpha: Literal["auto"] | Alpha = Field(
        "auto",
        description="LoRA scale: alpha / r (alpha / sqrt(r) with use_rslora); auto: 2 r, and r with a base above 2B, QLoRA "
        "or use_rslora",
    )
    lora_dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="dropout on the adapter's input"
    )
    target_modules: Modules = Field(
        "all-linear",
        description="which linear layers get an adapter; all-linear leaves out experts, routers, image and sound towers",
    )
    use_rslora: StrictBool = Field(False, description="rank-stabilised scale (2312.03732)")
    init_lora_weights: Init = Field(True, description="how A and B start")
    rank_pattern: RankPattern = Field({}, description="rank by module name")
    alpha_pattern: AlphaPattern = Field({}, description="alpha by module name")
    # Quantised base (QLoRA)
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="4-bit type of the base")
    bnb_4bit_use_double_quant: StrictBool = Field(True, description="quantise the quantisation constants too")
    # Several processes
    num_processes: Annotated[Whole, Field(ge=1, le=64)] = Field(
        1, description="processes that train together, one per GPU; multiplies the rows of a step"
    )
    distributed: Literal["ddp", "fsdp"] = Field(
        "ddp", description="with several: a copy of the model each, or shards of it"
    )
    # The run
    seed: Annotated[Whole, Field(ge=0, le=2**32 - 1)] = Field(
        42, description="order of the rows and start of the adapter"
    )
    logging_steps: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        1, description="steps between two rows of metrics"
    )
    save_steps: Annotated[Whole, Field(ge=1, le=1_000_000)] = Field(
        50, description="steps between two checkpoints"
    )
    save_total_limit: Annotated[Whole, Field(ge=1, le=100)] = Field(2, description="checkpoints kept")
    heldout_limit: Annotated[Whole, Field(ge=0, le=1_000_000)] = Field(
        512, description="held-out rows measured before and after"
    )
    report_to: Trackers = Field((), description="trackers that receive the metrics too")


FIELDS: Mapping[str, FieldInfo] = RecipeFields.model_fields


def methods_of(name: str) -> tuple[Method, ...]:
    """Return the methods that have the field `name`."""
    found = next((part for part in FIELDS[name].metadata if isinstance(part, Only)), None)
    return found.methods if found else METHODS


def defaults(method: Method) -> dict[str, Any]:
    """Return the fields of `method` and their defaults, in the order of the documentation."""
    found = {}
    for name, field in FIELDS.items():
        if method in methods_of(name):
            own = next((part.by_method for part in field.metadata if isinstance(part, Defaults)), {})
            found[name] = own.get(method, field.get_default())
    return found


def validated(name: str, value: Any) -> Any:
    """Return `value` in the field's own type. Raises `ValueError`, `TypeError` or `OverflowError`."""
    fields = RecipeFields.model_construct()
    setattr(fields, name, value)
    return getattr(fields, name)


def accepted(name: str) -> str:
    """Return what the field accepts, in words."""
    field = FIELDS[name]
    return _described(field.annotation, field.metadata)


def _described(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """Describe a type and its bounds: `a whole number from 1 to 64`, `'auto' or one of True, False`."""
    if get_origin(kind) is Annotated:
        kind, *inner = get_args(kind)
        return _described(kind, [*inner, *metadata])
    parts = [
        piece for part in metadata for piece in (part.metadata if isinstance(part, FieldInfo) else [part])
    ]
    if text := next((part.text for part in parts if isinstance(part, Accepted)), None):
        return text
    if get_origin(kind) in (Union, types.UnionType):
        return _either(get_args(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(value) for value in get_args(kind))
    if kind is bool:
        return "one of True, False"
    return ("a whole number " if kind is int else "a number ") + _bounds(parts)


def _either(kinds: tuple[Any, ...]) -> str:
    if type(None) in kinds:
        return f"{_described(next(kind for kind in kinds if kind is not type(None)))}, or unset"
    first, second = kinds
    if get_origin(first) is Literal:
        return f"{get_args(first)[0]!r} or {_described(second)}"
    return f"{_described(first)} or {get_args(second)[0]!r}"


def _bounds(parts: list[Any]) -> str:
    low = next((f"from {part.ge}" for part in parts if isinstance(part, Ge)), "")
    low = low or next((f"above {part.gt}" for part in parts if isinstance(part, Gt)), "")
    high = next((f"to {part.le}" for part in parts if isinstance(part, Le)), "")
    high = high or next((f"to below {part.lt}" for part in parts if isinstance(part, Lt)), "")
    return f"{low} {high}"


# Settings of PEFT and TRL that are refused by name, because the engine could not serve what they make.
REFUSED: dict[str, str] = {
    "use_dora": "false: vLLM cannot serve DoRA",
    "lora_bias": "false: vLLM cannot serve a bias in LoRA",
    "bias": "'none': vLLM cannot serve adapters that train biases",
    "modules_to_save": "unset: vLLM serves LoRA tensors only",
    "layer_replication": "unset: vLLM cannot serve replicated layers",
    "use_qalora": "false: vLLM cannot serve QALoRA",
    "alora_invocation_tokens": "unset: vLLM cannot serve activated LoRA",
    "trainable_token_indices": "unset: vLLM serves LoRA tensors only",
    "target_parameters": "unset: vLLM serves LoRA on linear modules only",
}
HARMLESS: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "modules_to_save": (None, []),
    "init_lora_weights": (True,),
}
