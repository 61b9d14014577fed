"""Log-probabilities that PEFT computes for a probe text: what a served adapter is compared with.

Run as `python -m align.training.probe --model DIR --adapter DIR --out probe.json [--qlora]`. `probe.json` holds
`token_ids` (T), `window` and `logprobs`, a table of natural-log probabilities: `base`, `adapter`, and `adapter_xN` with N
times the adapter's scale, over the base in full precision; where computing is inexact `block_N`, `module_NAME` and
`block_base`, with the part of one block, with that of one projection in all blocks (`module_o_proj`), and without any, in
float32; with QLoRA also `nf4_base`, `nf4_adapter` and `nf4_adapter_xN`, over the 4-bit base that it was trained on. Without
a window a series has T - 1 values, those of tokens 1 to T - 1 given all before; with one, the text is read in windows of so
many tokens, and a series has the values of each window but its first token. It uses plain transformers and PEFT, none of
the training code, so that it checks that code too.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from align.errors import AlignError, ModelError, OutOfMemory
from align.evaluation import neutral
from align.recipe.recipe import Recipe, resolve
from align.training.attention import attention_arguments
from align.training.memory.running_out import HINT_PROBE, ran_out, release
from align.training.memory.wide_layers import computed_in_float32
from align.training.model import Hardware, choose, load_base, load_tokenizer
from align.training.probe_multiples import multiples, scaled
from align.training.texts.chat_template import render
from align.training.texts.data import Row, encode, read_rows
from common.files import write_atomic

Table = dict[str, list[float]]
TOKENS, WINDOW, CUDA_WINDOWS = 96, 384, 6
"""Length of the probe in float32; of one window where computing is less exact; and how many windows on a GPU.

What two correct computations differ by goes down with the root of the number of tokens. A window fits in any engine.
"""
BLOCK = re.compile(r"\.(\d+)\.")
TEXT = (
    "A trim tab is a small surface on the trailing edge of a rudder: moving it moves the rudder, and the "
    "rudder turns the ship. Explain in two sentences why so little force is needed, then give one everyday "
    "example."
)
MORE = (
    "Write a short note to a colleague who begins on Monday: where the office is, when the team meets, and "
    "whom to ask about the printer. Keep it friendly, under eighty words, and end with a question.",
    "A farmer has 17 sheep and sells all but nine; then four lambs are born and two sheep are bought at the "
    "market for 85 each. How many animals are there now, and how much was spent? Show each step on its own "
    "line.",
    "Write a Python function `median(values)` that returns the middle value of a list of numbers, or the mean "
    "of the two middle values when their count is even, and raises ValueError for an empty list. Add a "
    "docstring and two tests.",
    "Translate into French and then into German: 'The train to the coast leaves at half past seven from "
    "platform two, and dogs travel free of charge.' Afterwards explain one word that has no exact counterpart.",
    "Compare three ways to keep soup warm for two hours without electricity. Give a table with the columns "
    "method, cost and risk, name the best for a picnic in October, and say in one sentence why the others are "
    "worse.",
    "Tell a story of six sentences about a lighthouse keeper, a lost letter and an unusually honest thief; the "
    "last sentence must turn the first one around. Then list the three nouns that matter most.",
)


def probe_tokens(tokenizer: Any, rows: Sequence[Row], seed: int, max_tokens: int = TOKENS) -> list[int]:
    """Return at most `max_tokens` token ids: the start of rows drawn with `seed`, then fixed texts.

    Without rows it is the fixed texts alone; of `TOKENS` those have several dozen. More than a window is cut to whole ones.
    """
    texts = (TEXT, *MORE) if max_tokens > TOKENS else (TEXT,)
    chats = [render(tokenizer, [{"role": "user", "content": text}], True) for text in texts]
    if max_tokens > WINDOW:
        chats.append("\n\n".join(entry.text for entry in neutral.entries()))
    fixed = [token for ids in encode(tokenizer, chats) for token in ids]
    if not rows:
        return _whole_windows(fixed[:max_tokens])
    drawn = random.Random(seed)
    start: list[int] = []
    for _ in range(max_tokens // TOKENS):
        tree = rows[drawn.randrange(len(rows))].tree
        start += [*tree.prompt, *tree.answers[0]][: TOKENS // 2]
    rest = max_tokens - len(start) if max_tokens > TOKENS else max_tokens // 2
    return _whole_windows(start + fixed[:rest])


def _whole_windows(token_ids: list[int]) -> list[int]:
    return token_ids if len(token_ids) < WINDOW else token_ids[: len(token_ids) // WINDOW * WINDOW]


def tokens_for(hardware: Hardware) -> int:
    """Return how long the probe is: longer where computations are less exact, and where more costs little."""
    if hardware.dtype == torch.float32:
        return TOKENS
    return WINDOW * (CUDA_WINDOWS if hardware.device.startswith("cuda") else 1)


def window_of(token_ids: Sequence[int]) -> int | None:
    """Return the window that a probe text is read in, None where it is read whole."""
    return WINDOW if len(token_ids) > WINDOW else None


@torch.no_grad()
def logprobs(model: torch.nn.Module, token_ids: Sequence[int], window: int | None = None) -> list[float]:
    """Return the natural-log probability of each token but a window's first, given those before it in its window.

    `window` None reads the text whole, which gives T - 1 values; else T is a multiple of it.
    """
    ids = torch.tensor(list(token_ids), device=next(model.parameters()).device)
    ids = ids.reshape(-1, window or len(token_ids))
    picked: list[float] = []
    for logits, row in zip(model(input_ids=ids, use_cache=False).logits, ids, strict=True):
        logp = logits[:-1].float().log_softmax(-1)
        picked += logp.gather(1, row[1:, None]).squeeze(1).tolist()
    return picked


def measure(
    model_path: str,
    adapter: Path,
    token_ids: Sequence[int],
    recipe: Recipe,
    note: Callable[[str], None] = lambda message: None,
) -> tuple[Table, str]:
    """Return the table `logprobs` for an adapter on disk, loading one model at a time, and what could not be measured.

    A base that was trained in 4 bits may not fit in full precision; then `base` and `adapter` are missing
    and the text says why. It is empty when nothing is missing. Any other base that does not fit on the device is computed
    on the CPU, of which `note` is informed. Raises `OutOfMemory` when that fails too.
    """
    hardware = choose(recipe)
    table: dict[str, list[float]] = {}

    def over_nf4() -> Table:
        model = load_adapter(load_base(model_path, recipe, hardware), adapter)
        return {f"nf4_{name}": series for name, series in _series(model, token_ids).items()}

    def over_floats(device: str) -> Table:
        base = AutoModelForCausalLM.from_pretrained(
            model_path, dtype=hardware.dtype, **attention_arguments(model_path)
        ).to(device)
        model = load_adapter(base.eval(), adapter)
        series = _series(model, token_ids)
        if hardware.dtype == torch.float32:
            return series
        parts, why = _unless_memory_runs_out(lambda: _part_series(model, token_ids))
        if parts is None:
            note(f"the probe cannot show whether each part is served: out of memory in float32 ({why})")
        return series | (parts or {})

    if recipe.qlora:
        found, why = _unless_memory_runs_out(over_nf4)
        if found is None:
            raise OutOfMemory(f"the 4-bit base does not fit for the probe ({why})", HINT_PROBE)
        table |= found
    found, why = _unless_memory_runs_out(lambda: over_floats(hardware.device))
    if found is None and recipe.qlora:
        return table, why
    if found is None:
        note(f"the probe is computed on the CPU: out of memory on the device ({why})")
        found, why = _unless_memory_runs_out(lambda: over_floats("cpu"))
    if found is None:
        raise OutOfMemory(f"the base does not fit for the probe ({why})", HINT_PROBE)
    return table | found, ""


def _unless_memory_runs_out(compute: Callable[[], Table]) -> tuple[Table | None, str]:
    """Return what `compute` returns, or None and why memory ran out; nothing of it is left on the device."""
    try:
        found, why = compute(), ""
    except OutOfMemory as error:
        found, why = None, error.message
    except (MemoryError, RuntimeError) as error:
        found, why = None, ran_out(error) or ""
        if not why:
            raise
    release()
    return found, why


def load_adapter(base: torch.nn.Module, adapter: Path) -> PeftModel:
    """Load an adapter from disk. Raises `ModelError` when PEFT passes over some of its weights."""
    model = PeftModel.from_pretrained(base, str(adapter)).eval()
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    with safe_open(str(adapter / "adapter_model.safetensors"), framework="pt") as file:
        different = sorted(set(file.keys()) ^ own.keys())
    if different:
        raise ModelError(f"PEFT does not read {different[0]} of the adapter as a weight of this model")
    return model


def _series(model: PeftModel, token_ids: Sequence[int]) -> Table:
    """Return the series without the adapter, with it, and with it at multiples of its scale."""

    window = window_of(token_ids)

    def compute(factor: int = 1) -> list[float]:
        with scaled(model, factor):
            return logprobs(model, token_ids, window)

    with model.disable_adapter():
        base = compute()
    adapter = compute()
    return {"base": base, "adapter": adapter} | multiples(base, adapter, compute)


def _part_series(model: PeftModel, token_ids: Sequence[int]) -> Table:
    """Return the series with a part of the adapter alone, each block and each projection in all blocks, and without it.

    In float32 (TF32 on a GPU), layer by layer: in bfloat16 the rounding that follows from a part is the same
    in the whole adapter's series, so that a weak part that is served would look as if it were missing.
    """
    window, precision = window_of(token_ids), torch.get_float32_matmul_precision()
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    scales = {name: dict(module.scaling) for name, module in layers}
    torch.set_float32_matmul_precision("high")
    try:
        with computed_in_float32(model):
            with model.disable_adapter():
                table = {"block_base": logprobs(model, token_ids, window)}
            for part, members in _parts([name for name, _ in layers]).items():
                for name, module in layers:
                    on = name in members
                    module.scaling.update({key: scale if on else 0.0 for key, scale in scales[name].items()})
                table[part] = logprobs(model, token_ids, window)
    finally:
        torch.set_float32_matmul_precision(precision)
    return table


def _parts(layers: Sequence[str]) -> dict[str, set[str]]:
    """Return the layers of each block and of each projection, by the part's series; one alone would be the whole."""
    blocks: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    for name in layers:
        if match := BLOCK.search(name):
            blocks.setdefault(f"block_{match[1]}", set()).add(name)
            modules.setdefault(f"module_{name.rpartition('.')[2]}", set()).add(name)
    return blocks | (modules if len(modules) > 1 else {})


def write(path: Path, token_ids: Sequence[int], table: dict[str, list[float]]) -> None:
    """Write `probe.json` whole."""
    value = {"token_ids": list(token_ids), "window": window_of(token_ids), "logprobs": table}
    write_atomic(path, json.dumps(value) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 with one line of reason."""
    parser = argparse.ArgumentParser(prog="python -m align.training.probe", description="Probe an adapter.")
    parser.add_argument("--model", required=True, help="Hugging Face directory of the base model")
    parser.add_argument("--adapter", required=True, type=Path, help="PEFT directory")
    parser.add_argument("--out", required=True, type=Path, help="file to write")
    parser.add_argument("--qlora", action="store_true", help="measure over the NF4 base too")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16: that of the engine")
    parser.add_argument("--heldout", type=Path, help="Parquet file of pairs to draw a part of the text from")
    parser.add_argument("--seed", type=int, default=42, help="of that draw")
    args = parser.parse_args(argv)
    try:
        recipe = resolve("dpo", args.qlora, {"dtype": args.dtype})
        tokenizer = load_tokenizer(args.model)
        rows = read_rows(args.heldout, "dpo", tokenizer, recipe.max_length)[0] if args.heldout else []
        token_ids = probe_tokens(tokenizer, rows, args.seed, tokens_for(choose(recipe)))
        table, missing = measure(args.model, args.adapter, token_ids, recipe)
        if missing:
            raise ModelError(missing)
        write(args.out, token_ids, table)
    except (AlignError, OSError, ValueError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
