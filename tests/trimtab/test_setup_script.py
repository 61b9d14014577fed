"""`scripts/setup.sh` on a machine with an NVIDIA card, with stand-ins for the driver's tool, the disk and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER_TOOL = """#!/bin/sh
case "$1" in -L) echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)";; *) echo {driver};; esac
"""
PYTHON = """#!/bin/sh
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/uv;;
  --version) echo Python 3.12.3;;
esac
echo "$@" >> calls
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts/setup.sh", "requirements/cuda.txt", "requirements/cpu.txt", "pyproject.toml"):
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tmp_path / "checkout"


def run(checkout: Path, driver: str = "580.65.06", free_gb: int = 200) -> subprocess.CompletedProcess[str]:
    tools = checkout.parent / "bin"
    tools.mkdir()
    for name, text in {
        "nvidia-smi": DRIVER_TOOL.format(driver=driver),
        "df": f"#!/bin/sh\necho Avail\necho ' {free_gb}'\n",
        "some-python": PYTHON,
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHON": str(tools / "some-python"),
        "PIP_FIND_LINKS": "/wheels",
    }
    return subprocess.run(
        ["bash", "scripts/setup.sh"], cwd=checkout, env=env, capture_output=True, text=True, timeout=60
    )


def test_setup_installs_the_cuda_pins_from_the_ordinary_index(checkout: Path) -> None:
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    calls = (checkout / "calls").read_text()
    assert "-r requirements/cuda.txt" in calls
    assert "torch-backend" not in calls
    assert "find-links" not in calls


def test_setup_refuses_a_driver_without_cuda_13_in_words(checkout: Path) -> None:
    done = run(checkout, driver="550.127.05")
    assert done.returncode == 1
    assert "The NVIDIA driver is 550.127.05; the cuda profile needs 580 or newer (CUDA 13)" in done.stderr
    assert not (checkout / ".venv").exists()


def test_setup_asks_for_the_disk_that_the_cuda_profile_takes(checkout: Path) -> None:
    done = run(checkout, free_gb=12)
    assert done.returncode == 1
    assert "12 GB of disk are free" in done.stderr
    assert "needs 20 GB" in done.stderr
    assert not (checkout / ".venv").exists()
