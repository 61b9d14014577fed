"""What an export is asked for, as its job file says it, and how far what was written is from the release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.errors import AlignError


class ExportError(AlignError):
    """The release cannot be exported; the text says why."""

    kind = "export"


@dataclass(frozen=True)
class ExportJob:
    """A release and the form to write it in.

    `model` is the base's directory, `adapter` a PEFT directory or None, `out` a new directory that the caller renames once
    it is whole. `base` is how others name the base: a hub id where it has one. `dtype` (of merged weights) is "auto", the
    base's own, or a type's name. For the model card: `origin`, which version of the base, `examples` that the system prompt
    quotes, `learned`, counts of lineage, and `run_card`, the run's own card. For GGUF: `quantize`, its type, and
    `tools`, the folder of llama.cpp's converter.
    """

    form: str
    model: str
    adapter: str | None
    out: str
    name: str
    base: str
    dtype: str = "auto"
    system_prompt: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    learned: dict[str, Any] = field(default_factory=dict)
    run_card: str | None = None
    origin: str | None = None
    examples: int = 0
    quantize: str = "q8_0"
    tools: str = ""

    @property
    def directory(self) -> Path:
        """Where to write."""
        return Path(self.out)

    @property
    def weights_file(self) -> str:
        """The name of a GGUF file: the release and the type."""
        return f"{self.name.replace('@', '-')}-{self.quantize.upper()}.gguf"


@dataclass(frozen=True)
class Distance:
    """How far log-probabilities of a probe text are from the release's own, in nats per token over `tokens` tokens.

    `effect` is what the adapter adds (mean, absolute), `effect_share` how much of it what was written does; None without
    an adapter, the share also where the distance is larger than the effect: it would be that of the rounding.
    `base_mean_abs` is what the base alone differs by in the type that was written. `read_by` is the program that computed
    them; `rounding_mean_abs`, of GGUF, is how far the values in the file are from the release, computed in float32.
    """

    mean_abs: float
    max_abs: float
    tokens: int
    effect: float | None
    effect_share: float | None
    base_mean_abs: float = 0.0
    read_by: str = "transformers"
    rounding_mean_abs: float | None = None


def compare(base: Sequence[float], release: Sequence[float], written: Sequence[float]) -> Distance:
    """Compare what was written with the release, both over the same base."""
    distances = [abs(a - b) for a, b in zip(release, written, strict=True)]
    own = [a - b for a, b in zip(release, base, strict=True)]
    there = [a - b for a, b in zip(written, base, strict=True)]
    size = sum(value * value for value in own)
    mean_abs, effect = sum(distances) / len(distances), sum(map(abs, own)) / len(own)
    shows = size > 0 and mean_abs <= effect
    return Distance(
        mean_abs=mean_abs,
        max_abs=max(distances),
        tokens=len(distances),
        effect=effect if size else None,
        effect_share=sum(a * b for a, b in zip(own, there, strict=True)) / size if shows else None,
    )
