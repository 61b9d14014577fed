"""The operations API, `/api`: one module a noun, thin over the store, the loop and the reconciler."""
