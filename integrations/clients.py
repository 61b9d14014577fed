"""Try real clients with tools against a running platform, each as its users install it.

    python integrations/clients.py NAME [--url http://127.0.0.1:7860] [--key KEY]

NAME is pydantic-ai, instructor, langchain, llm or open-webui. Run it by the interpreter of an environment that has the
client, a throw-away one for each, since they disagree about versions:

    uv venv /tmp/c && uv pip install --python /tmp/c/bin/python "pydantic-ai-slim[openai]" instructor langchain-openai llm
    uv venv /tmp/w && uv pip install --python /tmp/w/bin/python open-webui

A model that was not trained on tools may answer in words; what counts is that every request is answered.
"""

from __future__ import annotations

import argparse
import json
import os
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


def open_webui(url: str, key: str, model: str) -> str:
    """Open WebUI as installed, started here: sign up, list models, chat with a tool server's form and without."""
    with tempfile.TemporaryDirectory() as data:
        port = 18080
        env = {
            **os.environ,
            "DATA_DIR": data,
            "OPENAI_API_BASE_URL": url,
            "OPENAI_API_KEY": key,
            "ENABLE_OLLAMA_API": "false",
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
            return _chat_in_open_webui(f"http://127.0.0.1:{port}", model, server)
        except Exception:
            print(Path(data, "log").read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait(30)


def _chat_in_open_webui(url: str, model: str, server: subprocess.Popen[bytes]) -> str:
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
    return f"models {listed}; {answers}; streaming {streamed.count('data: ')} events"


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
    "pydantic-ai": pydantic_ai,
    "instructor": instructor,
    "langchain": langchain,
    "llm": llm,
    "open-webui": open_webui,
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
