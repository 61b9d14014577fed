"""One vLLM process per engine: start, supervise, talk to."""
