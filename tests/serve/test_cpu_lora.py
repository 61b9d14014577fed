"""Rows without an adapter: what vLLM's CPU kernels do with them, and what they do once masked."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
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
print(before, rows())
"""


def test_a_row_without_an_adapter_takes_none() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=300
    )
    upstream, ours = "[[4.0, 4.0], [28.0, 28.0], [8.0, 8.0]]", "[[4.0, 4.0], [0.0, 0.0], [8.0, 8.0]]"
    assert done.stdout.strip().splitlines()[-1] == f"{upstream} {ours}", (
        "upstream gives the last slot to slot -1"
    )
