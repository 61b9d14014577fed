"""`trimtab benchmark` against a scripted platform, with a script in the place of lm-evaluation-harness."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trimtab.cli import app

# Asks the endpoint of its arguments once, as the harness would, and writes results where it does.
HARNESS = """#!{python}
import json, os, pathlib, sys, urllib.request
argv = sys.argv[1:]
given = {{}}
for place, word in enumerate(argv):
    if word.startswith("--"):
        given[word] = argv[place + 1] if place + 1 < len(argv) and not argv[place + 1].startswith("--") else True
model = dict(part.split("=", 1) for part in given["--model_args"].split(","))
if model["model"] == "broken":
    sys.exit("no such model: broken")
gen = dict(part.split("=", 1) for part in given["--gen_kwargs"].split(","))
tasks = {{}}
if "--include_path" in given:
    for file in pathlib.Path(given["--include_path"]).glob("*.yaml"):
        task = json.loads(file.read_text())
        rows = pathlib.Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
        tasks[task["task"]] = json.loads(rows[0])["prompt"]
body = {{"model": model["model"], "messages": [{{"role": "user", "content": str(tasks)}}], "store": gen["store"] == "True"}}
request = urllib.request.Request(
    model["base_url"], json.dumps(body).encode(),
    {{"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}},
)
urllib.request.urlopen(request).read()
out = pathlib.Path(given["--output_path"]) / "model"
out.mkdir(parents=True)
measures = {{"alias": "x", "exact_match,none": 0.5, "exact_match_stderr,none": 0.1, "sample_len": 2}}
names = given["--tasks"].split(",")
(out / "results_2026.json").write_text(json.dumps({{"results": {{name: measures for name in names}}, "argv": argv}}))
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """Serve as the platform, and put the script in place; yield the requests, by path, key and body."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, "key": self.headers["Authorization"], "body": body})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script = tmp_path / "lm_eval"
    script.write_text(HARNESS.format(python=sys.executable))
    script.chmod(0o755)
    monkeypatch.setenv("TRIMTAB_LM_EVAL", str(script))
    monkeypatch.setenv("TRIMTAB_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("TRIMTAB_KEY", "a-key")
    yield requests
    server.shutdown()


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["benchmark", *words])


def test_tasks_and_local_files_are_asked_through_the_gateway_and_nothing_is_stored(
    asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "our capitals.jsonl"
    file.write_text('{"prompt": "Capital of France?", "answer": "Paris"}\n')
    found = run("assistant@2", "--tasks", "ifeval", "--jsonl", str(file), "--limit", "5", "--json")
    assert found.exit_code == 0, found.output
    assert [one["path"] for one in asked] == ["/v1/chat/completions"]
    assert asked[0]["key"] == "Bearer a-key"
    assert asked[0]["body"]["store"] is False
    assert asked[0]["body"]["model"] == "assistant@2"
    assert "Capital of France?" in asked[0]["body"]["messages"][0]["content"]
    results = json.loads(found.output)
    assert set(results["results"]) == {"ifeval", "our_capitals"}
    assert results["argv"][results["argv"].index("--limit") + 1] == "5"


def test_measures_are_shown_with_their_errors(asked: list[dict[str, Any]]) -> None:
    found = run("assistant", "--tasks", "gsm8k")
    assert found.exit_code == 0, found.output
    line = next(line for line in found.output.splitlines() if "gsm8k" in line)
    assert "0.5000" in line
    assert "0.1000" in line


def test_log_likelihood_tasks_ask_completions(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    assert run("assistant", "--tasks", "piqa", "--tokenizer", str(tmp_path)).exit_code == 0
    assert asked[0]["path"] == "/v1/completions"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "it has no line"),
        ("no json", "cannot be read"),
        ('{"prompt": "x"}', "line 1: accepted is an object with the texts prompt and answer"),
    ],
)
def test_a_file_that_cannot_be_a_task_is_refused(
    asked: list[dict[str, Any]], tmp_path: Path, line: str, words: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(line)
    found = run("assistant", "--jsonl", str(tmp_path / "mine.jsonl"))
    assert found.exit_code == 2
    assert words in found.output.replace("\n", " ")
    assert asked == []


def test_what_is_missing_is_said(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "name some with --tasks" in run("assistant").output
    assert "accepted is a folder that exists" in run("assistant", "--tasks", "x", "--include", "/none").output
    assert "no such model: broken" in run("broken", "--tasks", "x").output
    monkeypatch.setenv("TRIMTAB_LM_EVAL", str(tmp_path / "none"))
    found = run("assistant", "--tasks", "x")
    assert found.exit_code == 2
    assert "requirements/evals.txt" in found.output
