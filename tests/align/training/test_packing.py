"""Packed, shared and padded are the same numbers: grids by hand, then a tiny real model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.training.packed import attention
from align.training.packed.attention import (
    attend,
    attend_by_grid,
    attend_by_part,
    attend_by_segment,
    has_varlen,
)
from align.training.packed.logprobs import token_logprobs
from align.training.packed.packed_model import disagreement, make_packed, make_plain, why_not
from align.training.packed.packing import Pack, Tree, pack

TREES = [Tree([1, 2, 3], ([4, 5], [6])), Tree([7], ([8], [9, 10, 11]))]


def test_layout_of_two_pairs() -> None:
    p = pack(TREES)
    #                                   prompt 0 | chosen | rej | prompt 1 | chosen | rejected
    assert p.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
    assert p.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 1, 2, 3]]  # answers continue their prompt
    assert p.targets.tolist() == [4, 5, 6, 8, 9, 10, 11]
    assert p.sources.tolist() == [2, 3, 2, 6, 6, 8, 9]  # the prompt's last token predicts both answers
    assert p.answer.tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert p.lengths.tolist() == [2, 1, 1, 3]
    assert p.sum_by_answer(torch.tensor([1.0, 2, 4, 8, 16, 32, 64])).tolist() == [3, 4, 8, 112]


def test_without_sharing_the_prompt_is_there_twice() -> None:
    p = pack(TREES[:1], share=False)
    assert p.input_ids.tolist() == [[1, 2, 3, 4, 5, 1, 2, 3, 6]]
    assert p.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    assert p.sources.tolist() == [2, 3, 7]


@pytest.mark.parametrize("tree", [Tree([], ([1],)), Tree([1], ()), Tree([1], ([2], []))])
def test_empty_parts_are_refused(tree: Tree) -> None:
    with pytest.raises(ValueError, match="none of them empty"):
        pack([tree])


@pytest.fixture
def model(tiny: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny).eval()


def random_trees(n: int, answers: int = 2) -> list[Tree]:
    generator = torch.Generator().manual_seed(1)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(8, 40, (length,), generator=generator).tolist()

    return [Tree(ids(1, 12), tuple(ids(1, 12) for _ in range(answers))) for _ in range(n)]


def embedding_gradient(model: torch.nn.Module, batch: Pack) -> tuple[torch.Tensor, torch.Tensor]:
    model.requires_grad_(False)
    layer = model.model.layers[0].self_attn.q_proj.weight
    layer.requires_grad_(True)
    layer.grad = None
    values = batch.sum_by_answer(model(pack=batch))
    (values * torch.arange(1.0, values.numel() + 1)).sum().backward()
    return values.detach(), layer.grad.clone()


def test_shared_unshared_and_padded_agree_in_value_and_gradient(model: torch.nn.Module, tiny: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny).eval()
    assert why_not(model, 64) is None
    assert disagreement(model) < 1e-5
    make_packed(model)
    make_plain(plain)
    trees = random_trees(5)
    expected, gradient = embedding_gradient(plain, pack(trees))
    for share in (True, False):
        values, ours = embedding_gradient(model, pack(trees, share))
        torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(ours, gradient, atol=1e-4, rtol=1e-4)


def test_a_batch_of_eight_is_eight_batches_of_one(model: torch.nn.Module) -> None:
    make_packed(model)
    trees = random_trees(8)
    with torch.no_grad():
        together = pack(trees).sum_by_answer(model(pack=pack(trees)))
        alone = [pack([t]).sum_by_answer(model(pack=pack([t]))) for t in trees]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def by_hand(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries_from: torch.Tensor,
    keys_from: torch.Tensor,
    longest_queries: int,
    longest_keys: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """The contract of torch's variable-length attention, whose kernels need a GPU: causal, aligned at the ends."""
    assert window_size == (-1, 0)
    assert enable_gqa
    assert (queries_from.dtype, keys_from.dtype) == (torch.int32, torch.int32)
    assert int(queries_from.diff().max()) == longest_queries
    assert int(keys_from.diff().max()) == longest_keys
    outs = []
    for i in range(len(queries_from) - 1):
        q = query[queries_from[i] : queries_from[i + 1]].transpose(0, 1)
        k, v = (t[keys_from[i] : keys_from[i + 1]].transpose(0, 1) for t in (key, value))
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        outs.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[None], k[None], v[None], mask, scale=scale, enable_gqa=True
            )[0].transpose(0, 1)
        )
    return torch.cat(outs)


@pytest.mark.parametrize("answers", [1, 2, 3])
def test_part_by_part_by_segment_and_in_padded_batches_are_the_same(
    answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CPUs compute part by part GPUs compute in one call, or in two padded batches."""
    monkeypatch.setattr(attention, "varlen_attn", by_hand)
    layout = pack(random_trees(4, answers)).layout
    length = sum(layout.sizes)
    generator = torch.Generator().manual_seed(2)
    shapes = ((1, 4, length, 8), (1, 2, length, 8), (1, 2, length, 8))
    inputs = [torch.randn(s, generator=generator).requires_grad_() for s in shapes]
    upstream = torch.randn(1, length, 4, 8, generator=generator)
    results = []
    for compute in (attend_by_part, attend_by_grid, attend_by_segment):
        out = compute(*inputs, layout, 0.3)
        results.append([out, *torch.autograd.grad((out * upstream).sum(), inputs)])
    for tensors in zip(*results, strict=True):
        for other in tensors[1:]:
            torch.testing.assert_close(tensors[0], other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float32, 64), (torch.bfloat16, 260), (torch.bfloat16, 60)]
)
def test_only_what_the_kernel_computes_goes_to_it(dtype: torch.dtype, size: int) -> None:
    assert not has_varlen(torch.device("cuda"), dtype, size)


def test_one_answer_is_one_causal_sequence(model: torch.nn.Module, tiny: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny).eval()
    make_packed(model)
    batch = pack([Tree([9, 10, 11], ([12, 13],))])
    with torch.no_grad():
        logits = plain(torch.tensor([[9, 10, 11, 12, 13]])).logits[0, 2:4].log_softmax(-1)
        expected = logits.gather(1, torch.tensor([[12], [13]])).squeeze(1)
        torch.testing.assert_close(model(pack=batch), expected, atol=1e-5, rtol=1e-5)


def test_a_packed_model_refuses_rows_without_a_layout(model: torch.nn.Module) -> None:
    make_packed(model)
    with pytest.raises(RuntimeError, match="without a pack"):
        model(torch.tensor([[1, 2, 3]]))
    with pytest.raises(RuntimeError, match="without a pack"):
        attend(model, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), None)


def test_model_that_cannot_be_packed_has_a_reason(model: torch.nn.Module) -> None:
    model.config.sliding_window = 32
    assert "sliding window" in str(why_not(model, 64))
    assert why_not(model, 16) is None
    model.config.sliding_window = None
    model.config.logits_scaling = 8.0
    assert "logits" in str(why_not(model, 16))


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_logprobs_and_their_gradient_equal_log_softmax(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    weight, bias = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((11, 5), (11,)))
    targets = torch.tensor([0, 10, 3, 3, 5, 9, 1])
    upstream = torch.arange(1.0, 8.0)
    expected = (hidden @ weight.T + bias).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    (wanted,) = torch.autograd.grad((expected * upstream).sum(), hidden)
    ours = token_logprobs(hidden, weight, targets, bias, chunk)
    (gradient,) = torch.autograd.grad((ours * upstream).sum(), hidden)
    torch.testing.assert_close(ours, expected.float(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-6)


def test_a_trainable_head_is_refused() -> None:
    with pytest.raises(ValueError, match="frozen"):
        token_logprobs(torch.zeros(1, 2), torch.zeros(3, 2, requires_grad=True), torch.tensor([0]))
