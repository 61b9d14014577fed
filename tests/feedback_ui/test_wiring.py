"""The wiring, through the endpoints that Gradio serves: what a script or a notebook would call."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from gradio_client import Client

from tests.feedback_ui.conftest import Screens


@pytest.fixture
def client(screens: Screens) -> Iterator[Client]:
    client = Client(screens.url, verbose=False)
    yield client
    client.close()


def test_send_streams_an_answer_that_names_its_release(client: Client, screens: Screens) -> None:
    job = client.submit("Explain tides", "assistant", "0.5", "", api_name="/send")
    job.result(timeout=20)
    assert len(job.outputs()) >= 3
    sent = screens.stub.requests[-1][2]
    assert sent["messages"] == [{"role": "user", "content": "Explain tides"}]
    assert sent["temperature"] == 0.5
    assert "max_tokens" not in sent


def test_a_pair_that_the_platform_offers_is_shown_instead_of_an_answer(
    client: Client, screens: Screens
) -> None:
    screens.stub.pairs_offered = True
    shown = str(client.predict("Explain tides", "assistant", "", "", api_name="/send"))
    made = next(reversed(screens.stub.comparisons.values()))
    assert made["a"].splitlines()[0] in shown
    assert made["b"].splitlines()[0] in shown
    assert not [r for r in screens.stub.requests if r[1] == "/v1/chat/completions"], "no third answer"


def test_retrain_sends_the_form(client: Client, screens: Screens) -> None:
    screens.stub.pairs.append({"id": "pair-1"})
    client.predict(
        "dpo", True, "assistant", "promote", "report", "base", "4", "5e-5", "0.2", "8", "lora_alpha = 16",
        "first-preferences", api_name="/retrain",
    )  # fmt: skip
    assert screens.stub.requests[-1][2] == {
        "method": "dpo",
        "deployment": "assistant",
        "qlora": True,
        "params": {"max_steps": 4, "learning_rate": 5e-5, "r": 8, "beta": 0.2, "lora_alpha": 16},
        "rollout": "promote",
        "gate": "report",
        "start": "base",
        "recipe": "first-preferences",
    }


def test_rollout_buttons_are_endpoints(client: Client, screens: Screens) -> None:
    client.predict("assistant", "assistant@1", 25, api_name="/canary")
    assert screens.stub.deployment["weight"] == 0.25
    client.predict("assistant", "assistant@1", api_name="/rollback")
    assert screens.stub.deployment["canary"] is None


def test_access_shows_what_was_used(client: Client) -> None:
    shown = str(client.predict("bob", "correct horse", ["chat"], api_name="/add_user"))
    assert "Used this month" in shown
    assert "1,250,000" in shown


def test_the_caller_s_key_and_cookie_are_forwarded(screens: Screens) -> None:
    headers = {"Authorization": "Bearer tt-secret", "Cookie": "session=abc"}
    client = Client(screens.url, verbose=False, headers=headers)
    client.predict("hi", "assistant", "", "", api_name="/send")
    client.close()
    got = screens.stub.requests[-1][3]
    assert got["authorization"] == "Bearer tt-secret"
    assert got["cookie"] == "session=abc"


def test_the_pages_carry_no_foreign_address_and_no_history(screens: Screens) -> None:
    for path in ("/", "/rank", "/ops"):
        page = httpx.get(screens.url + path).text
        assert "fonts.googleapis" not in page
        assert "huggingface.co/spaces" not in page
    config = httpx.get(f"{screens.url}/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("run_history")


def test_what_is_shared_is_kept_by_the_platform(client: Client, screens: Screens) -> None:
    assert client.predict("none", api_name="/share") == "none"
    assert screens.stub.share == "none"
    assert client.predict("show", api_name="/share") == "show"


def test_pairs_are_made_and_the_job_is_followed(client: Client, screens: Screens) -> None:
    job = client.submit("assistant", "One?\n\n Two? ", "longer", 6, api_name="/make_pairs")
    job.result(timeout=20)
    sent = next(body for _, path, body, _ in reversed(screens.stub.requests) if path == "/api/pairs/make")
    assert sent == {
        "deployment": "assistant",
        "prompts": ["One?", "Two?"],
        "rules": {"prefer": "longer"},
        "n": 6,
    }
    shown = [str(output) for output in job.outputs()]
    assert any("sampling answers 1 of 3, about 4.0 s left" in text for text in shown)
    assert "5 pairs of 9 prompts; 4 prompts kept for held-out data" in shown[-2]


def test_a_screen_that_may_not_be_seen_stays_as_it_is(client: Client, screens: Screens) -> None:
    screens.stub.roles = ["chat"]
    shown = client.predict("pairs", *[""] * 14, api_name="/search_rows")
    assert "tt-card" not in str(shown), "what an operator sees"
    assert not [path for _, path, _, _ in screens.stub.requests if path.startswith("/api/rows")]
