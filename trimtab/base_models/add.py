"""Find a base model, check that it can be served and trained, and download or convert it. Writes no settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.gpu_cards import has_cuda
from serve.adapters.files import TEMPLATE
from trimtab.base_models import checks, memory
from trimtab.base_models.local import is_whole
from trimtab.errors import ModelRefused

Say = Callable[[str], None]
SOURCE = "trimtab-source.json"
DEQUANTISED = 8
"""How many times larger a 4-bit file is in float32."""
_LICENCE = re.compile(r"\A---\s*\n(?:.*\n)*?license:\s*['\"]?([\w.+-]+)")


@dataclass(frozen=True)
class Found:
    """A base model that was checked and is on this disk, as the settings name it.

    `model` None is the directory in the data directory that has the base's name.
    """

    model: str | None
    revision: str | None = None


@dataclass(frozen=True)
class Request:
    """What to add: `own` is the directory for files that are made here, `template` a chat template to use instead."""

    own: Path
    template: Path | None
    say: Say

    def __post_init__(self) -> None:
        if self.template is not None and not (
            self.template.is_file() and self.template.read_text("utf-8").strip()
        ):
            raise ModelRefused(
                "--chat-template", f"{self.template} holds no template", "a file in Jinja's language"
            )


def from_directory(directory: Path, request: Request) -> Found:
    """Check a local Hugging Face directory. Raises `ModelRefused`."""
    directory = directory.absolute()
    config = checks.read_config(directory)
    if not is_whole(directory):
        raise ModelRefused("model", f"{directory} lacks safetensors weights", checks.ACCEPTED["model"])
    request.say(f"licence: {licence_of(directory)}")
    checked = _check(directory, request)
    checks.check_weights(directory, checked)
    for line in memory.estimate(directory, config, checked.parameters, on_cpu=not has_cuda()):
        request.say(line)
    return _settle(Found(str(directory)), directory, request)


def from_hub(name: str, revision: str | None, request: Request) -> Found:
    """Check a repository of the hub and download it, at one commit. Raises `ModelRefused`, KeyboardInterrupt."""
    from trimtab.base_models import hub  # the hub's client: a second

    say = request.say
    repository = hub.look_up(name, revision)
    say(f"{name} at commit {repository.commit}{' (from the local cache)' if repository.cached else ''}")
    small = hub.fetch_small(repository)
    say(f"licence: {repository.licence or licence_of(small)}")
    checked = _check(small, request)
    for line in memory.estimate(small, checks.read_config(small), checked.parameters, on_cpu=not has_cuda()):
        say(line)
    if repository.cached is None:
        hub.require_room(repository)
        say(f"downloading {repository.weight_bytes / 1e6:.0f} MB of weights")
    directory = repository.cached or download(name, repository.commit)
    checks.check_weights(directory, checked)
    return _settle(Found(name, repository.commit), directory, request)


def from_gguf(file: Path, request: Request) -> Found:
    """Convert a GGUF file to float32 in the data directory, and check it. Raises `ModelRefused`, KeyboardInterrupt."""
    from trimtab.base_models.hub import require_free

    file = file.absolute()
    try:
        with file.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise ModelRefused("model", f"{file} can't be read ({error.strerror})", "a .gguf file") from error
    if magic != b"GGUF":
        raise ModelRefused("model", f"{file} is no GGUF file", "a .gguf file")
    require_free(request.own.parent, file.stat().st_size * DEQUANTISED, "set `data` to a larger disk")
    with _new(request.own):
        request.say(f"converting {file.name} to float32, for serving and training alike")
        _convert(file, request.own)
        source = {"model": str(file), "revision": None}
        (request.own / SOURCE).write_text(json.dumps(source) + "\n")
        if request.template is not None:
            shutil.copyfile(request.template, request.own / TEMPLATE)
        from_directory(request.own, Request(request.own, None, request.say))
    return Found(None)


def download(name: str, revision: str) -> Path:
    """Download a revision in a child process, which shows its progress. Raises `ModelRefused`, KeyboardInterrupt."""
    argv = [sys.executable, "-m", "trimtab.base_models.download", name, "--revision", revision]
    status, last = _run(argv)
    if status != 0:
        raise ModelRefused(
            "model", f"{name} was not downloaded ({last})", "the same command again, which continues"
        )
    return Path(last)


def _convert(file: Path, out: Path) -> None:
    status, last = _run([sys.executable, "-m", "align.convert", str(file), "--out", str(out)])
    if status != 0:
        raise ModelRefused("model", last, "a GGUF file of a family that transformers converts")


def _run(argv: list[str]) -> tuple[int, str]:
    """Run a child to its end; return its status and last line. It does not outlive an interruption."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        out, _ = process.communicate()
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        raise
    return process.returncode, (out.strip().splitlines() or [f"status {process.returncode}"])[-1]


def _check(directory: Path, request: Request) -> checks.Checked:
    request.say("checking that vLLM serves it and LoRA trains it (about 20 s)")
    with tempfile.TemporaryDirectory() as scratch:
        if request.template is not None:
            directory = _link_all(directory, Path(scratch) / "view", request.template)
        checked = checks.check_files(directory)
    request.say(f"family: {checked.model_type}; LoRA trains {', '.join(checked.kinds)}")
    return checked


def _settle(found: Found, directory: Path, request: Request) -> Found:
    """Return what the settings name: with a template of the caller's, a directory of links beside that template."""
    if request.template is None:
        return found
    with _new(request.own):
        _link_all(directory, request.own, request.template)
        source = {"model": found.model, "revision": found.revision}
        (request.own / SOURCE).write_text(json.dumps(source) + "\n")
    return Found(None)


def _link_all(directory: Path, target: Path, template: Path) -> Path:
    """Make `target`, with links to the files of `directory` and a copy of the template."""
    target.mkdir(parents=True)
    for file in directory.iterdir():
        if file.is_file() and file.suffix != ".jinja":
            (target / file.name).symlink_to(file.absolute())
    shutil.copyfile(template, target / TEMPLATE)
    return target


@contextmanager
def _new(directory: Path) -> Iterator[None]:
    """Around what fills a new directory: it is removed again where that fails. Raises `ModelRefused` where it exists."""
    if directory.exists():
        raise ModelRefused(
            "NAME", f"{directory} exists already", "a name for which there is no such directory"
        )
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def licence_of(directory: Path) -> str:
    """Return the licence that the front matter of README.md names, or where to look."""
    readme = directory / "README.md"
    if readme.is_file() and (found := _LICENCE.search(readme.read_text("utf-8", errors="replace"))):
        return found[1]
    file = next((path.name for path in sorted(directory.glob("LICENSE*"))), None)
    return f"see {file}" if file else "not stated"
