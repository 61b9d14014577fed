"""The run directory: all that a worker reads and writes, and all that others know of a run.

```
run.toml          what to train (RunSpec); written last, so a directory with it is complete
train.parquet     heldout.parquet     the snapshot
progress.jsonl    one JSON object per line: phases and step metrics
checkpoints/      checkpoint-N, whole when it holds the file COMPLETE
adapter/          the result, renamed into place whole      probe.json   log-probabilities to check parity
report.json       last of all: it exists only when the run succeeded
error.json        why the worker gave up                    stop         a request to stop (exit 3)
```

Nothing here imports torch or the store, so the platform imports it freely.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from align.errors import ModelError, RunDirectoryError
from align.recipe.recipe import Recipe
from align.report import TrainReport
from common.files import sha256_file, write_atomic
from common.training_methods import METHODS

COMPLETE = "COMPLETE"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_STOPPED = 3
# One process of a group ran out of memory: all restart with half the micro-batch.
EXIT_RETRY_SMALLER_BATCH = 4


@dataclass(frozen=True)
class RunSpec:
    """What a worker trains: `run.toml`.

    `base_model` is a Hugging Face directory; `recipe` is `Recipe.to_dict()`; `snapshot` the content hash of
    the two Parquet files' snapshot; `start_adapter` a PEFT directory to go on from (then the reference of
    DPO and KTO is that adapter), or None to start from the base. `start_sha256` is what `adapter_identity` said of it when
    the run was asked for; the worker fails when it says something else. `base_name` is the name that the adapter's
    card gives its base, `cache_dir` a folder where log-probabilities of the reference are kept between runs
    (None: only in this run). `system_prompt` goes before rows that do not say under which one they were answered, and
    `chat_template_kwargs` are further arguments of the chat template, both as the release is served that training goes on
    from.
    """

    method: str
    base_model: str
    recipe: Mapping[str, Any]
    snapshot: str
    start_adapter: str | None = None
    start_sha256: str | None = None
    run_id: str | None = None
    base_name: str | None = None
    max_lora_rank: int | None = None
    cache_dir: str | None = None
    licence: str | None = None
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    @property
    def quantization(self) -> str:
        """Base quantisation: `none`, `nf4` or `fp4`."""
        return (
            str(self.recipe["params"].get("bnb_4bit_quant_type", "nf4")) if self.recipe["qlora"] else "none"
        )

    @property
    def seed(self) -> int:
        """The seed of the recipe."""
        return int(self.recipe["params"]["seed"])

    def to_toml(self) -> str:
        """Return the text of `run.toml`."""
        import tomlkit  # only the writing side needs it; a worker on another machine may lack it

        table = {k: v for k, v in asdict(self).items() if v is not None}
        tables: dict[str, Any] = {
            name: dict(table.pop(name)) for name in ("chat_template_kwargs", "recipe") if name in table
        }
        table |= {"quantization": self.quantization, "seed": self.seed, **tables}
        return "# What this run trains. Written by the platform; the worker only reads it.\n" + tomlkit.dumps(
            table
        )

    @classmethod
    def from_toml(cls, text: str) -> RunSpec:
        """Read `run.toml`'s text. Raises `RunDirectoryError` naming what is missing or unknown,
        `RecipeError`."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RunDirectoryError(f"run.toml is not TOML: {error}") from error
        derived = {"quantization": table.pop("quantization", None), "seed": table.pop("seed", None)}
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(table) - known):
            raise RunDirectoryError(
                f"run.toml has unknown keys {unknown}", f"known: {', '.join(sorted(known))}"
            )
        if missing := sorted({"method", "base_model", "recipe", "snapshot"} - set(table)):
            raise RunDirectoryError(f"run.toml lacks {', '.join(missing)}")
        spec = cls(**table)
        if spec.method not in METHODS or spec.recipe.get("method") != spec.method:
            raise RunDirectoryError(f"run.toml: method {spec.method!r} and its recipe's must be the same")
        Recipe.from_dict(spec.recipe)
        for name, value in derived.items():
            if value is not None and value != getattr(spec, name):
                raise RunDirectoryError(f"run.toml: {name} = {value!r} contradicts the recipe")
        return spec


class RunDirectory:
    """One run's directory. Every method may be called while a worker writes; none waits for it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()

    @property
    def train(self) -> Path:
        """The rows to train on."""
        return self.path / "train.parquet"

    @property
    def heldout(self) -> Path:
        """The rows kept back to measure with; may be missing or empty."""
        return self.path / "heldout.parquet"

    @property
    def adapter(self) -> Path:
        """The trained adapter (PEFT format), there only when whole."""
        return self.path / "adapter"

    @property
    def finished(self) -> bool:
        """Whether the run succeeded and its adapter is still there."""
        return self.report() is not None and self.adapter.is_dir()

    @property
    def checkpoints_dir(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def write(self, spec: RunSpec, train: Path | None = None, heldout: Path | None = None) -> None:
        """Make the directory: copy the snapshot's files if given, then write `run.toml` last.

        Raises `RunDirectoryError` when there is a `run.toml` that says something else, or no train.parquet.
        """
        text = spec.to_toml()
        if (self.path / "run.toml").exists():
            if (self.path / "run.toml").read_text() != text:
                raise RunDirectoryError(f"{self.path} already holds another run")
            return
        self.path.mkdir(parents=True, exist_ok=True)
        for source, target in ((train, self.train), (heldout, self.heldout)):
            if source is not None:
                _copy(Path(source), target)
        if not self.train.is_file():
            raise RunDirectoryError(f"{self.train} is missing: write the snapshot before run.toml")
        write_atomic(self.path / "run.toml", text)

    def spec(self) -> RunSpec:
        """Read `run.toml`. Raises `RunDirectoryError` or `RecipeError`."""
        try:
            text = (self.path / "run.toml").read_text()
        except FileNotFoundError:
            raise RunDirectoryError(f"{self.path} has no run.toml: it is not a run directory") from None
        return RunSpec.from_toml(text)

    def progress(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the rows of `progress.jsonl` after line `after`; each row says its own line as `line`.

        A half-written last line is left for the next call.
        """
        rows: list[dict[str, Any]] = []
        try:
            with (self.path / "progress.jsonl").open("rb") as file:
                for number, line in enumerate(file, 1):
                    if number > after and line.endswith(b"\n"):
                        try:
                            row = json.loads(line)
                        except ValueError:
                            continue  # the torn tail of a worker that was killed
                        if isinstance(row, dict):
                            rows.append({**row, "line": number})
        except FileNotFoundError:
            pass
        return rows

    def activity(self) -> dict[str, Any] | None:
        """Return what the worker is doing, from its newest progress; None without any.

        `phase`, and `done` of `of` rows or steps where it counts them; `stage` is `sft` while the first half of an
        SFT-then-DPO run works. Reads the end of the file only.
        """
        first = RunDirectory(self.path / "sft")
        if first.path.is_dir() and first.report() is None:
            return {"phase": "loading", **(first.activity() or {}), "stage": "sft"}
        found: dict[str, Any] | None = None
        for row in _last_rows(self.path / "progress.jsonl"):
            match row:
                case {"kind": "phase", "phase": str(phase)}:
                    found = {"phase": phase}
                case {"kind": "scored", "phase": str(phase), "rows": int(done), "of": int(total)}:
                    found = {"phase": phase, "done": done, "of": total}
                case {"kind": "step", "step": int(done), "total_steps": int(total)}:
                    found = {"phase": "training", "done": done, "of": total}
        return found

    def report(self) -> dict[str, Any] | None:
        """Return `report.json`, or None while the run has not succeeded."""
        return _json(self.path / "report.json")

    def train_report(self) -> TrainReport | None:
        """Return `report.json` typed, or None while the run has not succeeded."""
        report = self.report()
        return None if report is None else TrainReport.from_dict(report)

    def error(self) -> dict[str, Any] | None:
        """Return `error.json`, or None when the worker did not give up."""
        return _json(self.path / "error.json")

    def probe(self) -> dict[str, Any] | None:
        """Return `probe.json`, or None when there is none yet."""
        return _json(self.path / "probe.json")

    def checkpoints(self) -> list[Path]:
        """Return the whole checkpoints, oldest first."""
        found = []
        for path in self.checkpoints_dir.glob("checkpoint-*"):
            step = path.name.rpartition("-")[2]
            if step.isdigit() and (path / COMPLETE).is_file():
                found.append((int(step), path))
        return [path for _, path in sorted(found)]

    def request_stop(self) -> None:
        """Ask the worker to checkpoint and exit 3, wherever it runs; it looks twice a second."""
        write_atomic(self.path / "stop", "")

    def withdraw_stop(self) -> None:
        """Withdraw the request, so that the run can be resumed."""
        (self.path / "stop").unlink(missing_ok=True)

    def delete_rows(self) -> None:
        """Delete what holds text of the snapshot: both Parquet files, and the probe, which begins with a row.

        Also those of the SFT stage inside. Not for a directory that a worker trains in.
        """
        for place in (self.path, self.path / "sft"):
            for name in ("train.parquet", "heldout.parquet", "probe.json"):
                (place / name).unlink(missing_ok=True)

    def stop_requested(self) -> bool:
        """Return whether a stop was requested."""
        return (self.path / "stop").exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory for one worker; freed by the kernel when it dies.

        Raises `RunDirectoryError` when another worker holds it.
        """
        with (self.path / ".worker.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunDirectoryError(f"another worker is training in {self.path}") from None
            yield


def adapter_identity(directory: str | Path) -> str:
    """Return the sha256 of an adapter's weights. Raises `ModelError` when there are none."""
    try:
        return sha256_file(Path(directory) / ADAPTER_WEIGHTS)
    except OSError as error:
        raise ModelError(f"{directory} holds no {ADAPTER_WEIGHTS}") from error


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _last_rows(path: Path, size: int = 2**16) -> Iterator[Any]:
    """Yield the whole rows within the last `size` bytes of a file of JSON lines."""
    try:
        with path.open("rb") as file:
            begin = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(begin)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines[1 if begin else 0 : -1]:
        with suppress(ValueError):  # the torn tail of a worker that was killed
            yield json.loads(line)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunDirectoryError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{path} is damaged: not an object")
    return value
