"""One file per training method; `METHODS` is the only list of their implementations."""

from __future__ import annotations

from collections.abc import Mapping

from align.training.methods.dpo import Dpo
from align.training.methods.kto import Kto
from align.training.methods.method import Method
from align.training.methods.sft import Sft

_ALL: tuple[Method, ...] = (Dpo(), Sft(), Kto())
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}
