"""Try real clients, agents and test harnesses against a running platform, each as its users install it.

    python integrations/clients.py NAME [--url http://127.0.0.1:7860] [--key KEY]

NAME is agents, garak, inspect, instructor, langchain, litellm, llm, open-webui, promptfoo or pydantic-ai. Run it by the
interpreter of an environment that has the client, a throw-away one for each line, since they disagree about versions:

    uv venv /tmp/c && uv pip install --python /tmp/c/bin/python "pydantic-ai-slim[openai]" instructor langchain-openai llm
    uv venv /tmp/a && uv pip install --python /tmp/a/bin/python openai-agents litellm
    uv venv /tmp/i && uv pip install --python /tmp/i/bin/python inspect-ai openai
    uv venv /tmp/g && uv pip install --python /tmp/g/bin/python garak
    uv venv /tmp/w && uv pip install --python /tmp/w/bin/python open-webui

promptfoo (`npm install promptfoo`) must be on the path. A model that was not trained on tools may answer in words; what
counts is that every request is answered.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUESTION = "What is the weather in Paris?"


def weather(city: str) -> str:
    """Return the weather in a city."""
    return f"Sunny in {city}."


def pydantic_ai(url: str, key: str, model: str) -> str:
    """Ask an agent with a tool, whole and streaming."""
    import asyncio

    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent = Agent(OpenAIChatModel(model, provider=OpenAIProvider(base_url=url, api_key=key)), tools=[weather])

    async def stream() -> str:
        async with agent.run_stream(QUESTION) as run:
            return str(await run.get_output())

    return f"{agent.run_sync(QUESTION).output!r}; streaming {asyncio.run(stream())!r}"


def instructor(url: str, key: str, model: str) -> str:
    """Ask for an object of a declared form, by a named tool."""
    import instructor as library
    import openai
    from pydantic import BaseModel, Field

    class City(BaseModel):
        name: str = Field(max_length=20)

    client = library.from_openai(openai.OpenAI(base_url=url, api_key=key))
    city = client.chat.completions.create(
        model=model,
        response_model=City,
        messages=[{"role": "user", "content": "Paris is a city. Name it."}],
        max_tokens=64,
    )
    return repr(city)


def langchain(url: str, key: str, model: str) -> str:
    """Ask a chat model with a bound tool, whole and streaming."""
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=url, api_key=key, model=model, max_tokens=64).bind_tools([weather])
    whole = chat.invoke(QUESTION)
    streamed = "".join(str(chunk.content) for chunk in chat.stream(QUESTION))
    return f"{whole.content!r} {whole.tool_calls}; streaming {streamed!r}"


def llm(url: str, key: str, model: str) -> str:
    """Ask by the command `llm -T`, with its own tool for the time."""
    with tempfile.TemporaryDirectory() as home:
        lines = ["- model_id: trimtab", f"model_name: {model}", f"api_base: {url}", "api_key_name: trimtab"]
        text = "\n  ".join([*lines, "supports_tools: true"]) + "\n"
        Path(home, "extra-openai-models.yaml").write_text(text)
        Path(home, "keys.json").write_text(json.dumps({"trimtab": key}))
        command = [sys.executable, "-m", "llm", "-m", "trimtab", "-T", "llm_time", "What time is it?"]
        done = subprocess.run(
            command, env={**os.environ, "LLM_USER_PATH": home}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"llm ended with {done.returncode}: {done.stderr[-1000:]}")
    return repr(done.stdout)


def litellm(url: str, key: str, model: str) -> str:
    """Ask by LiteLLM as a server of OpenAI's protocol, whole and streaming."""
    os.environ.setdefault(
        "LITELLM_LOCAL_MODEL_COST_MAP", "True"
    )  # else it fetches prices when it is imported
    import litellm as library

    asked: dict[str, Any] = {
        "model": f"openai/{model}",
        "api_base": url,
        "api_key": key,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 32,
    }
    whole = library.completion(**asked).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in library.completion(**asked, stream=True)]
    return f"{whole!r}; streaming {''.join(pieces)!r}"


def agents(url: str, key: str, model: str) -> str:
    """Run an agent with a tool of OpenAI's Agents SDK, by /v1/responses, whole and streaming."""
    import asyncio

    from agents import Agent, Runner, function_tool, set_default_openai_client, set_tracing_disabled
    from openai import AsyncOpenAI

    set_default_openai_client(AsyncOpenAI(base_url=url, api_key=key))
    set_tracing_disabled(True)
    agent = Agent(name="Helper", model=model, tools=[function_tool(weather)])

    async def ask() -> str:
        whole = (await Runner.run(agent, QUESTION)).final_output
        streamed = Runner.run_streamed(agent, QUESTION)
        kinds = [event.type async for event in streamed.stream_events()]
        return f"{whole!r}; streaming {len(kinds)} events, {streamed.final_output!r}"

    return asyncio.run(ask())


TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes


@task
def weather():
    return Task(dataset=[Sample(input={question!r}, target="Paris")], scorer=includes())
"""


def inspect(url: str, key: str, model: str) -> str:
    """Measure a task of one question by the command `inspect eval`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "task.py").write_text(TASK.format(question=QUESTION))
        command = [str(Path(sys.executable).with_name("inspect")), "eval", "task.py", "--display", "plain"]
        command += ["--model", f"openai-api/trimtab/{model}", "--max-tokens", "32", "--log-format", "json"]
        _run([*command, "--log-dir", "logs"], folder, TRIMTAB_BASE_URL=url, TRIMTAB_API_KEY=key)
        log = json.loads(next(Path(folder, "logs").glob("*.json")).read_text())
    sample = log["samples"][0]
    return f"{log['status']}; {sample['output']['choices'][0]['message']['content']!r}, scores {sample['scores']}"


def promptfoo(url: str, key: str, model: str) -> str:
    """Evaluate one prompt by the command `promptfoo eval`."""
    with tempfile.TemporaryDirectory() as folder:
        provider = {"id": f"openai:chat:{model}", "config": {"apiBaseUrl": url, "max_tokens": 32}}
        check = {"type": "regex", "value": "."}
        config = {"prompts": [QUESTION], "providers": [provider], "tests": [{"assert": [check]}]}
        Path(folder, "promptfooconfig.json").write_text(json.dumps(config))
        command = [
            shutil.which("promptfoo") or "promptfoo",
            "eval",
            "-c",
            "promptfooconfig.json",
            "--no-cache",
        ]
        offline = dict.fromkeys(("PROMPTFOO_DISABLE_TELEMETRY", "PROMPTFOO_DISABLE_UPDATE"), "1")
        _run([*command, "-o", "out.json"], folder, OPENAI_API_KEY=key, PROMPTFOO_CONFIG_DIR=folder, **offline)
        found = json.loads(Path(folder, "out.json").read_text())["results"]
    return f"{found['stats']['successes']} passed; {found['results'][0]['response']['output']!r}"


def garak(url: str, key: str, model: str) -> str:
    """Attack by garak's own test probe, with one generation."""
    options = {"openai": {"OpenAICompatible": {"uri": url, "max_tokens": 32}}}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "garak", "--target_type", "openai.OpenAICompatible"]
        command += ["--target_name", model, "--generator_options", json.dumps(options)]
        command += ["--probes", "test.Test", "--generations", "1", "--report_prefix", "trial"]
        homes = {f"XDG_{kind}_HOME": folder for kind in ("DATA", "CACHE", "CONFIG")}
        _run(command, folder, OPENAICOMPATIBLE_API_KEY=key, **homes)
        rows = [json.loads(line) for line in next(Path(folder).rglob("trial.report.jsonl")).open()]
    tries = {row["uuid"]: row for row in rows if row["entry_type"] == "attempt" and row["outputs"]}
    return f"{len(tries)} attempts; {next(iter(tries.values()))['outputs'][0]['text']!r}"


def _run(command: list[str], folder: str, **environment: str) -> None:
    """Run a command in a folder; end with what it said where it fails."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def open_webui(url: str, key: str, model: str) -> str:
    """Open WebUI as installed, started here: sign up, chat with and without tools, and rate by our function."""
    with tempfile.TemporaryDirectory() as data:
        port = 18080
        env = {
            **os.environ,
            "DATA_DIR": data,
            "OPENAI_API_BASE_URL": url,
            "OPENAI_API_KEY": key,
            "ENABLE_OLLAMA_API": "false",
            "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
            "OFFLINE_MODE": "true",
            "RAG_EMBEDDING_MODEL_AUTO_UPDATE": "false",
            "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
            "WEBUI_SECRET_KEY": "a-secret-key-for-a-trial-of-half-a-minute",
            "HF_HUB_OFFLINE": "1",
        }
        binary = Path(sys.executable).with_name("open-webui")
        with Path(data, "log").open("wb") as log:
            server = subprocess.Popen(
                [str(binary), "serve", "--host", "127.0.0.1", "--port", str(port)],
                env=env,
                stdout=log,
                stderr=log,
            )
        try:
            here = f"http://127.0.0.1:{port}"
            token, said = _chat_in_open_webui(here, model, server)
            return f"{said}; {_rate_in_open_webui(here, model, token, url.removesuffix('/v1'), key)}"
        except Exception:
            print(Path(data, "log").read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait(30)


def _chat_in_open_webui(url: str, model: str, server: subprocess.Popen[bytes]) -> tuple[str, str]:
    end = time.monotonic() + 400
    while True:
        try:
            _ask(url + "/health")
            break
        except (urllib.error.URLError, OSError):
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(1)
    person = {"name": "Ada", "email": "ada@example.org", "password": "a-Long-pass-word-1"}
    token = _ask(url + "/api/v1/auths/signup", person)["token"]
    listed = [card["id"] for card in _ask(url + "/api/models", token=token)["data"]]
    assert model in listed, listed
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 32,
    }
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    plain = _ask(url + "/api/chat/completions", {**body, "stream": False}, token)
    tools = _ask(url + "/api/chat/completions", {**body, "stream": False, "tools": [tool]}, token)
    streamed = _read(url + "/api/chat/completions", {**body, "stream": True, "tools": [tool]}, token)
    assert "[DONE]" in streamed, streamed[-500:]
    answers = [answer["choices"][0]["message"]["content"] for answer in (plain, tools)]
    return token, f"models {listed}; {answers}; streaming {streamed.count('data: ')} events"


def _rate_in_open_webui(url: str, model: str, token: str, trimtab: str, key: str) -> str:
    """Install our function, have two answers to one question, like the second, and read from Trimtab what arrived."""
    name = "trimtab_feedback"
    content = Path(__file__).with_name("open_webui").joinpath(f"{name}.py").read_text()
    made = {"id": name, "name": "Trimtab feedback", "content": content, "meta": {"description": "ratings"}}
    _ask(f"{url}/api/v1/functions/create", made, token)
    _ask(f"{url}/api/v1/functions/id/{name}/valves/update", {"url": trimtab, "key": key}, token)
    assert _ask(f"{url}/api/v1/functions/id/{name}/toggle", {}, token)["is_active"]
    question = {"id": "q", "parentId": None, "role": "user", "content": QUESTION}
    chat = {"title": "Weather", "models": [model], "history": {"currentId": None, "messages": {}}}
    chat_id = _ask(f"{url}/api/v1/chats/new", {"chat": chat}, token)["id"]
    answers = {}
    for number, ident in enumerate(("answer-1", "answer-2")):
        body = {
            "model": model, "stream": False, "max_tokens": 12, "temperature": 1, "seed": number, "id": ident,
            "chat_id": chat_id, "user_message": question, "messages": [{"role": "user", "content": QUESTION}],
        }  # fmt: skip
        said = _ask(f"{url}/api/chat/completions", body, token)["choices"][0]["message"]["content"]
        more = {"parentId": "q", "role": "assistant", "childrenIds": [], "model": model, "done": True}
        answers[ident] = {"id": ident, "content": said} | more
    messages = {"q": question | {"childrenIds": list(answers)}} | answers
    chat["history"] = {"currentId": "answer-2", "messages": messages}
    rated = {"rating": 1, "model_id": model, "reason": "accurate_information", "comment": "Nice"}
    rating = {
        "type": "rating",
        "data": rated | {"details": {"rating": 9}},
        "meta": {"chat_id": chat_id, "message_id": "answer-2", "model_id": model},
        "snapshot": {"chat": _ask(f"{url}/api/v1/chats/{chat_id}", {"chat": chat}, token)},
    }
    _ask(f"{url}/api/v1/evaluations/feedback", rating, token)
    end = time.monotonic() + 30
    while True:
        found = {noun: _ask(f"{trimtab}/api/rows/{noun}", token=key)["rows"] for noun in ("likes", "pairs")}
        if all(found.values()) or time.monotonic() > end:
            break
        time.sleep(0.5)
    worse, better = (answer["content"].strip() for answer in answers.values())
    assert found["likes"], found
    assert found["pairs"] or worse == better, found
    counts = ", ".join(f"{len(rows)} {noun}" for noun, rows in found.items())
    return f"rated {better!r} over {worse!r}: {counts} in Trimtab"


def _ask(url: str, body: Any = None, token: str | None = None) -> Any:
    return json.loads(_read(url, body, token))


def _read(url: str, body: Any = None, token: str | None = None) -> str:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url}: {error.code} {error.read().decode()[:1000]}") from error


CLIENTS: dict[str, Callable[[str, str, str], str]] = {
    "agents": agents,
    "garak": garak,
    "inspect": inspect,
    "instructor": instructor,
    "langchain": langchain,
    "litellm": litellm,
    "llm": llm,
    "open-webui": open_webui,
    "promptfoo": promptfoo,
    "pydantic-ai": pydantic_ai,
}


def main() -> None:
    """Try one client and print what it got."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--key", default="none", help="any text in single-user mode")
    parser.add_argument("--model", default="assistant")
    given = parser.parse_args()
    print(given.name, CLIENTS[given.name](given.url.rstrip("/") + "/v1", given.key, given.model))


if __name__ == "__main__":
    main()
