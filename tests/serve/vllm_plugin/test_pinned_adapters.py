"""An adapter in one block of memory, as vLLM's own reader of adapters takes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from vllm.lora import lora_model
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
from serve.vllm_plugin import pinned_adapters

folder, blocks = sys.argv[1], []
def allocate(size, dtype):
    blocks.append(torch.empty(size, dtype=dtype))
    return blocks[-1]

helper = PEFTHelper.from_local_dir(folder, 4096)
modules = set(helper.target_modules)
def read():
    return LoRAModel.from_local_checkpoint(folder, modules, helper, lora_model_id=1, device="cpu", dtype=torch.bfloat16)

plain = read()
pinned_adapters._pinned = allocate
pinned_adapters.pin_adapters_in_one_block()
pinned_adapters.pin_adapters_in_one_block()
joined = read()
def tensors(model):
    return {(name, side): getattr(layer, side) for name, layer in model.loras.items() for side in ("lora_a", "lora_b")}
one, other = tensors(plain), tensors(joined)
ends = [(t.data_ptr(), t.data_ptr() + 2 * t.numel()) for t in other.values()]
ends.sort()
block = blocks[0]
print(json.dumps({
    "count": len(other), "same": one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one),
    "blocks": len(blocks), "storages": len({t.untyped_storage().data_ptr() for t in other.values()}),
    "apart": all(a[1] <= b[0] for a, b in zip(ends, ends[1:])), "aligned": all(begin % 64 == 0 for begin, _ in ends),
    "contiguous": all(t.is_contiguous() for t in other.values()),
}))
"""


def read(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.fixture(scope="module")
def seen(loras: list[Path]) -> dict[str, Any]:
    return read(loras[0])


def test_all_tensors_of_an_adapter_share_one_block(seen: dict[str, Any]) -> None:
    assert seen["count"] > 2
    assert (seen["blocks"], seen["storages"]) == (1, 1)
    assert seen["contiguous"]
    assert seen["aligned"]


def test_what_is_read_from_the_block_is_the_adapter(seen: dict[str, Any]) -> None:
    assert seen["same"]
    assert seen["apart"], "no tensor overlaps another"
