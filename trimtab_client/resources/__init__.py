"""Resources of the operations API, one module each; `AsyncClient` and `Client` hold one of each."""
