"""The whole loop on the real stack: rank, retrain with QLoRA, hot-swap under traffic, parity, roll back.

One story in order; each test goes on from the one before.
"""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from align.evaluation.gate import DEFAULT_CHECKS
from tests.support.platform import PlatformProcess
from tests.support.prompts import exchanges

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

COMPARISONS = 12
STEPS = 3


class Chatter:
    """A client that chats without pause and counts what failed."""

    def __init__(self, url: str) -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._chat)

    def _chat(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self.client.chat.completions.with_raw_response.create(
                    model="assistant",
                    messages=[{"role": "user", "content": "Name one colour."}],
                    max_tokens=8,
                    extra_headers={"X-Trimtab-Conversation": f"chatter-{len(self.answers)}"},
                )
                assert answer.parse().choices[0].message.content
                self.answers.append(answer.headers["X-Trimtab-Release"])
                self._stop.wait(2.0)
            except Exception as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Chatter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def engine(platform: PlatformProcess) -> dict[str, Any]:
    """The only engine's row of the status."""
    (row,) = platform.get("/api/status")["engines"]
    return dict(row)


def served(platform: PlatformProcess, model: str, token_ids: list[int]) -> list[float]:
    """Log-probability of each token after the first, as the gateway serves them."""
    body = {"model": model, "prompt": token_ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    (choice,) = platform.post("/v1/completions", body)["choices"]
    rows = choice["prompt_logprobs"]
    return [row[str(token)]["logprob"] for token, row in zip(token_ids[1:], rows[1:], strict=True)]


def apart(one: list[float], other: list[float]) -> float:
    """Mean absolute difference."""
    assert len(one) == len(other)
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


@pytest.fixture(scope="module")
def run(platform: PlatformProcess) -> dict[str, Any]:
    """Votes by a fixed rule, then a QLoRA DPO run, while somebody chats all through."""
    questions = [question for question, _ in itertools.islice(exchanges(200), COMPARISONS)]

    def rank(question: str) -> None:
        body = {
            "messages": [{"role": "user", "content": question}],
            "deployment": "assistant",
            "sampling": {"max_tokens": 16},
        }
        comparison = platform.post("/api/comparisons", body)
        a, b = comparison["a"], comparison["b"]
        choice = "tie" if len(a) == len(b) else "a" if len(a) < len(b) else "b"
        vote = platform.post(f"/api/comparisons/{comparison['id']}/vote", {"choice": choice})
        assert vote["revealed"] == {"a": "assistant@1", "b": "assistant@1"}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rank, questions))
    before = engine(platform)
    phases: list[str] = []

    def note(now: dict[str, Any]) -> None:
        if now["activity"]:
            phases.append(now["activity"]["phase"])

    with Chatter(platform.url) as chatter:
        body = {
            "method": "dpo",
            "qlora": True,
            "rollout": "promote",
            "gate": "report",  # a handful of held-out pairs proves nothing: enforced, it would end as a canary
            "params": {
                "max_steps": STEPS,
                "learning_rate": 1e-3,
                "max_length": 64,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 1,
            },
        }
        asked = platform.post("/api/runs", body)
        assert asked["state"] == "queued"
        found = platform.run_to_end(asked["id"], 900, note)
    return found | {
        "engine_before": before,
        "phases": phases,
        "failures": chatter.failures,
        "answers": chatter.answers,
    }


def test_the_run_ends_stable_with_a_new_release(platform: PlatformProcess, run: dict[str, Any]) -> None:
    assert run["state"] == "stable", (run["error"], run["gate_decision"])
    assert run["release"] == "assistant@2"
    assert run["step"] == run["total_steps"] == STEPS
    states = [row["state"] for row in run["transitions"]]
    assert states == ["queued", "snapshot", "training", "publishing", "evaluating", "stable"]
    assert "training" in run["phases"], "the API says what the worker does"
    deployment = platform.get("/api/deployments/assistant")
    assert (deployment["stable"], deployment["previous"]) == ("assistant@2", "assistant@1")


def test_every_vote_became_a_pair_that_the_run_learned_from(
    platform: PlatformProcess, run: dict[str, Any]
) -> None:
    status = platform.get("/api/status")
    assert COMPARISONS - 4 <= status["pairs"]["total"] <= COMPARISONS
    lineage = platform.get("/api/releases/assistant@2/lineage")
    assert lineage["snapshot"]["id"] == run["snapshot"]
    held = lineage["snapshot"]["heldout_rows"]
    assert held >= 1
    assert lineage["pairs"] == lineage["snapshot"]["train_rows"]
    assert lineage["pairs"] + held <= status["pairs"]["total"]


def test_swap_breaks_no_request_and_restarts_no_engine(
    platform: PlatformProcess, run: dict[str, Any]
) -> None:
    assert run["failures"] == []
    assert set(run["answers"]) <= {"assistant@1", "assistant@2"}
    assert run["answers"].index("assistant@2") > 0 if "assistant@2" in run["answers"] else True
    order = [int(name.rpartition("@")[2]) for name in run["answers"]]
    assert order == sorted(order)
    after = engine(platform)
    assert after["pid"] == run["engine_before"]["pid"]
    assert after["restarts"] == 0


def test_metrics_of_each_step_are_kept(platform: PlatformProcess, run: dict[str, Any]) -> None:
    rows = platform.get(f"/api/runs/{run['id']}/metrics")
    assert [row["step"] for row in rows][:STEPS] == list(range(1, STEPS + 1))
    assert all(isinstance(row["loss"], float) for row in rows[:STEPS])


def test_the_evaluation_compares_with_stable(platform: PlatformProcess, run: dict[str, Any]) -> None:
    evaluation = platform.get(f"/api/evals/{run['evaluation']}")
    assert (evaluation["release"], evaluation["against"]) == ("assistant@2", "assistant@1")
    assert evaluation["state"] == "done"
    assert evaluation["report"]["anchor"] == "assistant@1"
    decision = run["gate_decision"]
    assert (decision["mode"], decision["passed"]) == ("report", decision["verdict"] == "pass")
    measured = {check["measure"]: check for check in decision["checks"] if check["required"]}
    assert set(measured) == {check.measure for check in DEFAULT_CHECKS if check.required}
    assert all(check["estimate"] for check in measured.values())


def test_served_logprobs_equal_those_of_training(platform: PlatformProcess, run: dict[str, Any]) -> None:
    probe = json.loads((platform.data / "runs" / run["id"] / "probe.json").read_text())
    tokens = probe["token_ids"]
    base = served(platform, "smollm2-135m-instruct", tokens)
    adapter = served(platform, "assistant", tokens)
    assert apart(adapter, probe["logprobs"]["adapter"][-len(adapter) :]) < 1e-2
    assert apart(base, probe["logprobs"]["base"][-len(base) :]) < 1e-2
    assert apart(adapter, base) > 10 * apart(adapter, probe["logprobs"]["adapter"][-len(adapter) :])
    parity = platform.get("/api/releases/assistant@2")["parity"]
    assert parity["ok"] is True
    assert parity["mean_abs"] < parity["tolerance"]
    assert parity["nf4_drift"] > 0


def test_roll_back_gives_the_base_again_without_a_reload(
    platform: PlatformProcess, run: dict[str, Any]
) -> None:
    tokens = json.loads((platform.data / "runs" / run["id"] / "probe.json").read_text())["token_ids"]
    pid = engine(platform)["pid"]
    deployment = platform.post("/api/deployments/assistant/rollback")
    assert deployment["stable"] == "assistant@1"
    assert (
        apart(served(platform, "assistant", tokens), served(platform, "smollm2-135m-instruct", tokens)) < 1e-4
    )
    assert engine(platform)["pid"] == pid
    assert platform.get(f"/api/runs/{run['id']}")["state"] == "rolled_back"
    pinned = platform.post(
        "/v1/chat/completions",
        {"model": "assistant@2", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
    )
    assert pinned["choices"][0]["message"]["content"]
