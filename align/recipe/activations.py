"""What a training step keeps and passes through in memory, in numbers per token, and how many layers are recomputed."""

from __future__ import annotations

import math

from align.recipe.shape import Shape

# Share of the free memory that is planned with; the rest is for fragments and for what others take meanwhile.
USABLE = 0.9
# Rows of logits that exist at a time on a GPU.
LOGIT_ROWS = 512


def kept_on_cpu(shape: Shape, rank: int) -> float:
    """Return the numbers per token that autograd keeps in one layer; measured on Llama shapes of several widths."""
    return 7.3 * shape.hidden + 4.7 * shape.keys + 4 * shape.inner + 7 * rank + 50


def kept_on_cuda(shape: Shape, rank: int, key_copies: float) -> float:
    """Return the numbers per token that autograd keeps in one layer.

    Counted: the residuals and norms of both halves (4 times the width), queries and attention's result, keys and values
    `key_copies` times (a shared prompt's once for each of its answers too), gate, its activation, up and their product,
    and what each adapter's first half gives. Measured on one H100 at four widths: within 1%.
    """
    return 4 * shape.hidden + 2 * shape.queries + 2 * key_copies * shape.keys + 4 * shape.inner + 7 * rank


def passing(shape: Shape) -> float:
    """Return the numbers per token that exist beside what is kept while the gradient of one layer is made."""
    return 2.0 * shape.inner + 4 * shape.hidden


def scored(shape: Shape) -> float:
    """Return the numbers per token of a forward pass without a gradient."""
    return 4.0 * shape.inner + 4 * shape.hidden


def layers_to_recompute(free: float, kept: float, boundary: float, layers: int, tokens: float) -> int:
    """Return the least number of layers to recompute so that `tokens` fit in `free` bytes.

    `kept` bytes per token are what all layers keep together, `boundary` what a recomputed layer keeps: its input.
    """
    room = USABLE * free - tokens * boundary * layers
    each = tokens * (kept / layers - boundary)
    if each <= 0:
        return 0
    return min(layers, max(0, layers - math.floor(room / each)))


def beside_layers(trainable: int, hidden: int, inner: int, vocabulary: int, size: int) -> float:
    """Return the bytes of gradients, optimiser, a chunk of logits and the largest weight as numbers of `size` bytes."""
    return (
        12.0 * trainable + LOGIT_ROWS * vocabulary * (4 + 4 + size) + 2.0 * hidden * max(hidden, inner) * size
    )
