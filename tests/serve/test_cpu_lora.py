"""What vLLM does with rows without an adapter, and with two numbers of one adapter; and what our mask makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json

import torch
from vllm.lora.ops.torch_ops import lora_ops
from serve.cpu_lora import mask_rows_without_adapter

def rows():
    inputs = torch.ones(3, 4)
    slots = torch.stack([torch.full((1, 2, 4), float(n)) for n in (1, 2, 7)])
    output = torch.full((3, 2), -5.0)
    lora_ops.bgmv_shrink(inputs, slots, output, torch.tensor([0, -1, 1]), 1.0)
    return output.tolist()

before = rows()
mask_rows_without_adapter()
mask_rows_without_adapter()
from vllm.lora.request import LoRARequest
numbers = {LoRARequest("a-1", 5, "/a"), LoRARequest("a-1", 6, "/a")}
print(json.dumps([before, rows(), len(numbers)]))
"""


@pytest.fixture(scope="module")
def seen() -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=300
    )
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


def test_a_row_without_an_adapter_takes_none(seen: list[Any]) -> None:
    assert seen[0] == [[4.0, 4.0], [28.0, 28.0], [8.0, 8.0]], "upstream gives the last slot to slot -1"
    assert seen[1] == [[4.0, 4.0], [0.0, 0.0], [8.0, 8.0]]


def test_one_adapter_under_two_numbers_counts_as_one(seen: list[Any]) -> None:
    """The engine activates a *set* of requests' adapters, compared by name: of two numbers in one batch only one is kept in
    its slot, and when another adapter takes the other's slot the engine ends (`KeyError` in `convert_mapping`). So an
    adapter is unloaded only while none of its requests runs: `Engine.closed_to`.
    """
    assert seen[2] == 1
