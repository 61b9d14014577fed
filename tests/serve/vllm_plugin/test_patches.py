"""What vLLM does with rows without an adapter and with two numbers of one adapter; our mask, and our kernel, on the same."""

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
from serve.vllm_plugin.patches import mask_rows_without_adapter

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

# A batch in which the rows of two adapters are mixed with each other's and the base's, and then a prompt of each.
from serve.vllm_plugin.patches import group_rows_by_adapter
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_selector import get_punica_wrapper
group_rows_by_adapter()
torch.manual_seed(0)
wrapper = get_punica_wrapper(64, max_batches=8, device="cpu")
a = tuple(torch.randn(3, 1, 4, 6) for _ in range(2))
b = torch.randn(3, 1, 5, 4), torch.randn(3, 1, 2, 4)
worst = []
for prefill, ids in ((False, (7, 0, 9, 7)), (True, (9, 9, 9, 0, 0, 7, 7)), (False, (0, 0))):
    wrapper.update_metadata(LoRAMapping(ids, ids, is_prefill=prefill), [9, None, 7], 3, 100)
    x, y = torch.randn(len(ids), 6), torch.randn(len(ids), 7)
    wanted = y.clone()
    for row, number in enumerate(ids):
        if number:
            slot = {9: 0, 7: 2}[number]
            wanted[row] += 0.5 * torch.cat([b[n][slot, 0] @ (a[n][slot, 0] @ x[row]) for n in range(2)])
    assert wrapper.add_lora_linear(y, x, a, b, 0.5, (5, 2)) is None
    worst.append(float((y - wanted).abs().max()))
print(json.dumps([before, rows(), len(numbers), type(wrapper).__name__, worst]))
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


def test_each_row_takes_its_own_adapter(seen: list[Any]) -> None:
    assert seen[3] == "GroupedPunica", "vLLM asks its platform for the kernels' class"
    assert max(seen[4]) < 1e-5
    assert seen[4][2] == 0, "a batch without adapters stays as it is, bit by bit"


def test_one_adapter_under_two_numbers_counts_as_one(seen: list[Any]) -> None:
    """The engine activates a *set* of requests' adapters, compared by name: of two numbers in one batch only one is kept in
    its slot, and when another adapter takes the other's slot the engine ends (`KeyError` in `convert_mapping`). So an
    adapter is unloaded only while none of its requests runs: `InFlight.pause_adapter`.
    """
    assert seen[2] == 1
