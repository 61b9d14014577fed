"""What llama.cpp computes of a GGUF file: tokens and log-probabilities of a text.

Run as `python -m align.training.exports.llama_cpp JOB.json OUT.json` in an environment that has `xllamacpp`. The job has
`file`, `text` and `tokens`; written are `tokens`, as llama.cpp makes them of the text, `logprobs`, of the job's tokens but
the first, each given those before it (None where a token is no whole character, of which the server says nothing), and
`version`.

The server answers with the log-probability of the token that it samples, before anything that steers the sampling. So each
token is asked for with a bias that makes it the sampled one; the tokens before it are computed once.
"""

from __future__ import annotations

import importlib
import json
import sys
import urllib.request
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

BIAS = 10_000.0
PACKAGE = "xllamacpp"
TIMEOUT_S = 300


def main(argv: list[str]) -> int:
    """Compute what the job asks for; exit status 0."""
    job = json.loads(Path(argv[0]).read_text())
    server = start(job["file"], len(job["tokens"]) + 8)
    text = {"content": job["text"], "add_special": False, "parse_special": True}
    found = {
        "tokens": _post(server.listening_address + "/tokenize", text)["tokens"],
        "logprobs": logprobs(server, job["tokens"]),
        "version": f"{PACKAGE} {version(PACKAGE)}",
    }
    Path(argv[1]).write_text(json.dumps(found))
    return 0


def start(file: str, length: int) -> Any:
    """Return llama.cpp's server of a file, in this process, that computes in float32 where the weights allow it."""
    llama: Any = importlib.import_module(PACKAGE)
    params = llama.CommonParams()
    params.model.path = file
    params.n_ctx = length
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.warmup = False
    params.fit_params = False
    params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama.Server(params)


def logprobs(server: Any, tokens: Sequence[int]) -> list[float | None]:
    """Return the log-probability of each token but the first."""
    return [_logprob(server, tokens[:end], tokens[end]) for end in range(1, len(tokens))]


def _logprob(server: Any, before: Sequence[int], token: int) -> float | None:
    asked = {
        "prompt": list(before),
        "max_tokens": 1,
        "n_probs": 1,
        "temperature": 0,
        "logit_bias": [[token, BIAS]],
        "cache_prompt": True,
    }
    answer = server.handle_completions(asked)
    answer = answer if isinstance(answer, dict) else json.loads(answer)
    content = (answer["choices"][0]["logprobs"] or {}).get("content") or []
    if not content or content[0]["id"] != token:
        return None
    return float(content[0]["logprob"])


def _post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.loads(answer.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
