"""Every field of a recipe: default, check, what is accepted, meaning; and what is refused by name.

The one table behind validation, messages and documentation. Names are TRL's and PEFT's own. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

METHODS = ("dpo", "sft", "kto")
# vLLM 0.32 accepts these as --max-lora-rank; an adapter's rank may be anything up to the largest.
MAX_RANK = 512
LOSS_TYPES = (
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
)
PLAIN_INITS = ("gaussian", "eva", "orthogonal")
SCHEDULERS = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")
OPTIMIZERS = (
    "auto",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "lion_8bit",
    "adafactor",
    "sgd",
)

Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Field:
    """One setting: its default by method, how a value is checked, what is accepted, and what it means."""

    name: str
    default: Any
    check: Check
    accepted: str
    meaning: str
    methods: tuple[str, ...] = METHODS

    def default_for(self, method: str) -> Any:
        """Return the default value for `method`."""
        if self.default and isinstance(self.default, dict) and set(self.default) <= {*METHODS, "*"}:
            return self.default.get(method, self.default.get("*"))
        return self.default


def _integer(low: int, high: int, also: tuple[int, ...] = ()) -> tuple[Check, str]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value:
            raise ValueError
        value = int(value)
        if value not in also and not low <= value <= high:
            raise ValueError
        return value

    extra = "".join(f" or {v}" for v in also)
    return check, f"a whole number from {low} to {high}{extra}"


def _number(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> tuple[Check, str]:
    def check(value: Any) -> float:
        if isinstance(value, bool | str):
            raise ValueError
        value = float(value)
        if not low <= value <= high or (open_low and value == low) or (open_high and value == high):
            raise ValueError  # a NaN fails the first comparison
        return value

    left, right = ("above" if open_low else "from"), ("to below" if open_high else "to")
    return check, f"a number {left} {low:g} {right} {high:g}"


def _choice(*values: Any) -> tuple[Check, str]:
    def check(value: Any) -> Any:
        if value not in values or any(
            isinstance(value, bool) != isinstance(v, bool) for v in values if v == value
        ):
            raise ValueError
        return value

    return check, "one of " + ", ".join(repr(v) for v in values)


def _flag() -> tuple[Check, str]:
    return _choice(True, False)


def _loss_types() -> tuple[Check, str]:
    def check(value: Any) -> tuple[str, ...]:
        names = (value,) if isinstance(value, str) else tuple(value)
        if not names or any(name not in LOSS_TYPES for name in names) or len(set(names)) != len(names):
            raise ValueError
        return names

    return check, "one or a list of " + ", ".join(LOSS_TYPES)


def _modules() -> tuple[Check, str]:
    def check(value: Any) -> str | tuple[str, ...]:
        if value == "all-linear":
            return "all-linear"
        names = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        names = tuple(str(name).strip() for name in names)
        # The head and the embedding would be served only with extra-vocabulary support, which vLLM dropped.
        if not names or any(not n.isidentifier() or n in ("lm_head", "embed_tokens") for n in names):
            raise ValueError
        return names

    return (
        check,
        "'all-linear' or a list of module names such as q_proj, v_proj (not lm_head, not embed_tokens)",
    )


def _optional(pair: tuple[Check, str]) -> tuple[Check, str]:
    inner, accepted = pair

    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check, f"{accepted}, or unset"


def _auto(pair: tuple[Check, str]) -> tuple[Check, str]:
    inner, accepted = pair

    def check(value: Any) -> Any:
        return "auto" if isinstance(value, str) and value == "auto" else inner(value)

    return check, f"'auto' or {accepted}"


def _weights() -> tuple[Check, str]:
    one, _ = _number(0, 100)

    def check(value: Any) -> tuple[float, ...]:
        return tuple(one(v) for v in value)

    return check, "a list of numbers from 0 to 100, one for each loss_type"


def _pattern(pair: tuple[Check, str]) -> tuple[Check, str]:
    inner, accepted = pair

    def check(value: Any) -> dict[str, Any]:
        return {str(k): inner(v) for k, v in dict(value).items()}

    return check, f"a table of module name patterns to {accepted}"


def _words() -> tuple[Check, str]:
    known = ("tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "none")

    def check(value: Any) -> tuple[str, ...]:
        names = (value,) if isinstance(value, str) else tuple(value)
        if any(name not in known for name in names):
            raise ValueError
        return tuple(name for name in names if name != "none")

    return check, "a list of " + ", ".join(known)


def _init() -> tuple[Check, str]:
    def check(value: Any) -> Any:
        if value is True or value in PLAIN_INITS:
            return value
        raise ValueError

    return check, "true or one of " + ", ".join(
        PLAIN_INITS
    ) + " (vLLM cannot serve PiSSA, OLoRA, CorDA, LoftQ)"


def _field(
    name: str, default: Any, pair: tuple[Check, str], meaning: str, methods: tuple[str, ...] = METHODS
) -> Field:
    return Field(name, default, pair[0], pair[1], meaning, methods)


_PAIRWISE = ("dpo",)
_PREFERENCE = ("dpo", "kto")

FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        # Length of the run
        _field(
            "max_steps", -1, _integer(1, 10_000_000, (-1,)), "optimiser steps; -1: num_train_epochs decides"
        ),
        _field(
            "num_train_epochs",
            {"*": 1.0, "sft": 2.0},
            _number(0, 1000, open_low=True),
            "passes over the data",
        ),
        # Optimiser
        _field(
            "learning_rate", {"*": 1e-4, "sft": 2e-4, "kto": 5e-5}, _number(0, 1, open_low=True), "peak rate"
        ),
        _field("lr_scheduler_type", "cosine", _choice(*SCHEDULERS), "shape of the rate over the run"),
        _field("warmup_steps", 0.0, _number(0, 1_000_000), "below 1: share of the run; from 1: steps"),
        _field("weight_decay", 0.0, _number(0, 1), "AdamW's decay of the adapter"),
        _field("adam_beta1", 0.9, _number(0, 1, open_high=True), "first moment"),
        _field("adam_beta2", 0.999, _number(0, 1, open_high=True), "second moment"),
        _field("adam_epsilon", 1e-8, _number(0, 1, open_low=True), "added to the denominator"),
        _field("max_grad_norm", 1.0, _number(0, 1000), "clip the gradient's norm; 0: do not clip"),
        _field(
            "optim",
            "auto",
            _choice(*OPTIMIZERS),
            "auto: adamw_torch; with QLoRA on CUDA paged_adamw_8bit, on the CPU adamw_8bit",
        ),
        # Batches
        _field(
            "per_device_train_batch_size", {"*": 4, "dpo": 4}, _integer(1, 4096), "rows (pairs) a micro-batch"
        ),
        _field("gradient_accumulation_steps", {"*": 2, "dpo": 2}, _integer(1, 4096), "micro-batches a step"),
        _field(
            "max_length", 1024, _integer(16, 131_072), "tokens of prompt and answer; longer answers are cut"
        ),
        _field("packing", True, _flag(), "compute rows of a micro-batch without padding"),
        _field("share_prompt", True, _flag(), "compute a pair's common prompt once (2410.20305)", _PAIRWISE),
        _field(
            "gradient_checkpointing", "auto", _auto(_flag()), "recompute activations: less memory, more time"
        ),
        _field("dtype", "auto", _choice("auto", "float32", "bfloat16"), "auto: float32 on the CPU"),
        # Method
        _field(
            "beta",
            0.1,
            _number(0, 10, open_low=True),
            "how far the policy may leave its reference",
            _PREFERENCE,
        ),
        _field("loss_type", ("sigmoid",), _loss_types(), "preference loss, or several added", _PAIRWISE),
        _field("loss_weights", None, _optional(_weights()), "weight of each loss_type", _PAIRWISE),
        _field(
            "label_smoothing",
            0.0,
            _auto(_number(0, 0.5, open_high=True)),
            "share of votes taken to be flipped, for loss_type 'robust' and 'exo_pair'; auto: from raters' agreement",
            _PAIRWISE,
        ),
        _field("desirable_weight", 1.0, _number(0, 100), "weight of liked answers", ("kto",)),
        _field("undesirable_weight", 1.0, _number(0, 100), "weight of disliked answers", ("kto",)),
        _field(
            "sft_epochs",
            0.0,
            _number(0, 100),
            "first train on the chosen answers for so many epochs",
            _PAIRWISE,
        ),
        # Adapter
        _field("r", 16, _integer(1, MAX_RANK), "LoRA rank"),
        _field(
            "lora_alpha", 32, _integer(1, 4096), "LoRA scale: alpha / r (alpha / sqrt(r) with use_rslora)"
        ),
        _field("lora_dropout", 0.0, _number(0, 1, open_high=True), "dropout on the adapter's input"),
        _field("target_modules", "all-linear", _modules(), "which linear layers get an adapter"),
        _field("use_rslora", False, _flag(), "rank-stabilised scale (2312.03732)"),
        _field("init_lora_weights", True, _init(), "how A and B start"),
        _field("rank_pattern", {}, _pattern(_integer(1, MAX_RANK)), "rank by module name"),
        _field("alpha_pattern", {}, _pattern(_integer(1, 4096)), "alpha by module name"),
        # Quantised base (QLoRA)
        _field("bnb_4bit_quant_type", "nf4", _choice("nf4", "fp4"), "4-bit type of the base"),
        _field("bnb_4bit_use_double_quant", True, _flag(), "quantise the quantisation constants too"),
        # Several processes
        _field(
            "num_processes",
            1,
            _integer(1, 64),
            "processes that train together, one a GPU; multiplies the rows of a step",
        ),
        _field(
            "distributed",
            "ddp",
            _choice("ddp", "fsdp"),
            "with several: a copy of the model each, or shards of it",
        ),
        # The run
        _field("seed", 42, _integer(0, 2**32 - 1), "order of the rows and start of the adapter"),
        _field("logging_steps", 1, _integer(1, 100_000), "steps between two rows of metrics"),
        _field("save_steps", 50, _integer(1, 1_000_000), "steps between two checkpoints"),
        _field("save_total_limit", 2, _integer(1, 100), "checkpoints kept"),
        _field("heldout_limit", 512, _integer(0, 1_000_000), "held-out rows measured before and after"),
        _field("report_to", (), _words(), "trackers that receive the metrics too"),
    )
}

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
