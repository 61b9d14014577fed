"""Write a release into a new folder, by a child process: whole or not at all, with room asked for first."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

from serve.safetensors_file import METADATA, parse_header
from trimtab.base_models.local import model_of
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.errors import ExportRefused
from trimtab.exports.job import DEFAULT_QUANTIZATION, Exported, job_of
from trimtab.exports.tools import CONVERTER, TOOLS, install_command

FORMS = ("peft", "hf", "gguf")
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZATIONS = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
"""Types of a GGUF file, by bytes a value."""
ROOM = 1.05
"""Free disk space over the bytes that are written."""

Say = Callable[[int, int, str], None]


def export(asked: Exported, settings: Settings, paths: DataPaths, say: Say) -> dict[str, Any]:
    """Write a release to a folder that does not exist or is empty; return what the child found, and `out`.

    `say` is called with steps done, steps in all and what it does now. Raises `ExportRefused`; whatever it raises, or a
    KeyboardInterrupt, leaves no folder behind.
    """
    out = asked.out.resolve()
    model = model_of(settings.engines, paths, str(asked.release["base"]))
    adapter = paths.adapters / asked.release["adapter"] if asked.release["adapter"] else None
    _check(asked, out, model, adapter)
    _require_room(out.parent, _bytes(asked, model, adapter))
    with _new(out) as scratch, tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(job_of(asked, settings, paths, model, adapter, scratch)))
        found = _run([sys.executable, "-m", "align.export", str(job)], say)
    return {"out": str(out), **found}


def _check(asked: Exported, out: Path, model: Path, adapter: Path | None) -> None:
    name = asked.release["name"]
    if asked.form not in FORMS:
        raise ExportRefused("--to", f"there is no form {asked.form!r}", ", ".join(FORMS))
    if asked.dtype not in ("auto", *DTYPES):
        raise ExportRefused("--dtype", f"there is no type {asked.dtype!r}", f"auto, {', '.join(DTYPES)}")
    if asked.dtype != "auto" and asked.form != "hf":
        kept = "an adapter is written as it is" if asked.form == "peft" else "--quantize is the type of GGUF"
        raise ExportRefused("--dtype", kept, "a type with hf")
    _check_quantization(asked)
    if asked.form == "peft" and adapter is None:
        prompt = " with a system prompt" if asked.release.get("system_prompt") else ""
        raise ExportRefused(
            "--to", f"{name} has no adapter: it is the base model {asked.release['base']}{prompt}", "hf, gguf"
        )
    if out.is_mount():
        raise ExportRefused("DIR", f"{out} is a mount point, which cannot be replaced", "a new folder in it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportRefused("DIR", f"{out} exists and is not empty", "a new or an empty folder")
    if not (model / "config.json").is_file():
        raise ExportRefused(
            "release", f"the base model's files are not in {model}", "a base that is on this machine"
        )
    if asked.form != "peft" and "quantization_config" in json.loads((model / "config.json").read_text()):
        raise ExportRefused("--to", f"the base model in {model} is quantised, which can't be merged", "peft")
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise ExportRefused(
            "release", f"the adapter is not in {adapter}", "an adapter that was not pruned, on this machine"
        )


def _check_quantization(asked: Exported) -> None:
    if asked.quantize is not None and asked.form != "gguf":
        raise ExportRefused("--quantize", f"{asked.form} files are not quantised", "a type with gguf")
    if asked.quantize not in (None, *QUANTIZATIONS):
        raise ExportRefused("--quantize", f"there is no type {asked.quantize!r}", ", ".join(QUANTIZATIONS))
    if asked.form == "gguf" and not (TOOLS / CONVERTER).is_file():
        raise ExportRefused(
            "--to",
            f"llama.cpp's converter is not in {TOOLS}; install it there: {install_command()}",
            "peft, hf, or gguf after that",
        )


def _bytes(asked: Exported, model: Path, adapter: Path | None) -> int:
    """Return about how many bytes the weights take; of GGUF with the merged ones that it is converted from."""
    if asked.form == "peft" and adapter is not None:
        return sum(file.stat().st_size for file in adapter.iterdir())
    files = list(model.glob("*.safetensors"))
    if asked.form == "hf" and asked.dtype == "auto":
        return sum(file.stat().st_size for file in files)
    tensors = [facts for file in files for name, facts in parse_header(file)[0].items() if name != METADATA]
    values = sum(int(prod(facts["shape"])) for facts in tensors)
    if asked.form == "gguf":
        return int(values * (DTYPES["float32"] + QUANTIZATIONS[asked.quantize or DEFAULT_QUANTIZATION]))
    return values * DTYPES[asked.dtype]


def _require_room(folder: Path, needed: int) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed * ROOM:
        why = f"{existing} has {free / 1e9:.1f} GB free and {needed * ROOM / 1e9:.1f} GB are needed"
        raise ExportRefused("DIR", why, "a folder on a disk with room")


@contextmanager
def _new(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to fill, which becomes `out` at the end, and is deleted where that is not reached."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=out.parent) as beside:
            scratch = Path(beside) / out.name
            yield scratch
            scratch.rename(out)
    except OSError as error:
        raise ExportRefused(
            "DIR", f"{out} cannot be written ({error.strerror or error})", "another folder"
        ) from error


def _run(argv: list[str], say: Say) -> dict[str, Any]:
    """Run the child to its end and return its last line. Neither it nor what it starts outlives an interruption."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=complaints, text=True, process_group=0
        )
        line: dict[str, Any] = {}
        try:
            for text in process.stdout or ():
                line = json.loads(text) if text.startswith("{") else line
                if "doing" in line:
                    say(line["done"], line["total"], line["doing"])
            status = process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        complaints.seek(0)
        if status == 0:
            return line
        last = (complaints.read().strip().splitlines() or [f"it ended with status {status}"])[-1]
    raise ExportRefused(
        "release", f"nothing was exported: {last}", "a release that can be written and read back"
    )
