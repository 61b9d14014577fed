"""Sequence log-probabilities of rows under a model: the reference's, cached by content, and the held-out
measures.

Batches are packs of about `TOKENS` tokens; nothing here has a gradient.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.errors import OutOfMemory
from align.stats import mean_interval, wilson
from align.training.memory.running_out import HINT_TRAINING, ran_out, release
from align.training.packed.packing import Pack, Tree, pack
from align.training.session import Session
from align.training.texts.data import Row

TOKENS = {"cpu": 2048, "cuda": 8192}
SAVE_EVERY_SECONDS = 30.0
REPORT_EVERY_SECONDS = 2.0

Scores = list[list[float]]


@torch.no_grad()
def score_rows(
    model: torch.nn.Module,
    rows: Sequence[Row],
    share: bool = True,
    tick: Callable[[int], None] = lambda done: None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    tokens: int | None = None,
    halved: Callable[[int], None] = lambda tokens: None,
) -> Iterator[tuple[int, list[float]]]:
    """Yield (row's index, summed log-probability of each of its answers), in any order; `tick` gets rows done.

    When memory runs out, packs have half the tokens from there on: `halved` gets how many. Raises `OutOfMemory` when one
    row does not fit.
    """
    device = next(model.parameters()).device
    budget = tokens or TOKENS.get(device.type, TOKENS["cuda"])
    waiting = deque(_groups(rows, range(len(rows)), budget))
    ahead: Pack | None = None
    done = 0
    while waiting:
        group = waiting[0]
        batch = (ahead or pack([rows[i].tree for i in group], share)).to(device)
        scored, why = _score(model, batch, autocast)
        if scored is None:
            del batch
            ahead = None
            budget = _smaller(rows, group, why)
            waiting = deque(_groups(rows, [i for group in waiting for i in group], budget))
            halved(budget)
            continue
        waiting.popleft()
        # While the device computes.
        ahead = pack([rows[i].tree for i in waiting[0]], share) if waiting else None
        sums = scored.tolist()
        for index in group:
            width = len(rows[index].tree.answers)
            yield index, sums[:width]
            sums = sums[width:]
        done += len(group)
        tick(done)


def score_in_group(
    session: Session, model: torch.nn.Module, rows: Sequence[Row], phase: str
) -> Iterator[tuple[int, list[float]]]:
    """Yield as `score_rows` does, each process scoring its share of the rows; report progress as `phase`."""
    last = time.monotonic()

    def tick(done: int) -> None:
        nonlocal last
        session.stop.check()
        if time.monotonic() - last > REPORT_EVERY_SECONDS:
            session.log.write("scored", phase=phase, rows=done, of=len(rows))
            last = time.monotonic()

    def halved(tokens: int) -> None:
        session.note(f"out of memory in scoring ({phase}): going on with packs of {tokens} tokens")

    group = session.group
    if not group.is_distributed:
        yield from score_rows(model, rows, tick=tick, autocast=session.autocast, halved=halved)
        return
    mine = range(group.rank, len(rows), group.size)
    mine_rows = [rows[i] for i in mine]
    scored = score_rows(model, mine_rows, tick=tick, autocast=session.autocast, halved=halved)
    yield from group.gather([(mine[place], sums) for place, sums in scored])


def _score(
    model: torch.nn.Module, batch: Pack, autocast: Callable[[], AbstractContextManager[Any]]
) -> tuple[Tensor | None, str]:
    """Return the sums of a pack's answers, or None and why memory ran out; nothing of the attempt is left then."""
    try:
        with autocast():
            return batch.sum_by_answer(model(pack=batch)), ""
    except (MemoryError, RuntimeError) as error:
        if (why := ran_out(error)) is None:
            raise
        return None, why


def _smaller(rows: Sequence[Row], group: Sequence[int], why: str) -> int:
    """Return half the tokens of a pack that did not fit."""
    release()
    tokens = sum(rows[i].tokens for i in group)
    if len(group) == 1:
        raise OutOfMemory(f"one row of {tokens} tokens does not fit when it is scored ({why})", HINT_TRAINING)
    return tokens // 2


def _groups(rows: Sequence[Row], indices: Iterable[int], budget: int) -> Iterator[list[int]]:
    # Rows of similar length are grouped, which keeps the share of attention and the size of packs even.
    order = sorted(indices, key=lambda i: rows[i].tokens)
    group: list[int] = []
    total = 0
    for index in order:
        if group and total + rows[index].tokens > budget:
            yield group
            group, total = [], 0
        group.append(index)
        total += rows[index].tokens
    if group:
        yield group


class ReferenceCache:
    """Log-probabilities by (model identity, prompt, answer), in one file per model identity.

    `writes` is false in all but one of several processes that share a run. Safe to
    delete at any time. Writers replace the file whole; two runs that write at once lose at most work.
    """

    def __init__(self, directory: Path, identity: str, writes: bool = True) -> None:
        self.path = directory / f"{identity[:32]}.npz"
        self.hits = 0
        self.writes = writes
        self.known: dict[bytes, float] = {}
        if self.path.exists():
            try:
                with np.load(self.path) as stored:
                    keys = [bytes(k) for k in stored["keys"]]
                    self.known = dict(zip(keys, stored["values"].tolist(), strict=True))
            except (OSError, ValueError, KeyError):
                self.known = {}  # damaged: it is only a cache

    def save(self) -> None:
        """Replace the file by what is known now; a process that is not to write leaves it to the one that is."""
        if not self.writes:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        keys = np.frombuffer(b"".join(self.known), dtype=np.uint8).reshape(-1, 16)
        with temporary.open("wb") as file:
            np.savez(file, keys=keys, values=np.array(list(self.known.values()), dtype=np.float64))
        temporary.replace(self.path)

    def fill(
        self,
        rows: Sequence[Row],
        compute: Callable[[Sequence[Row]], Iterator[tuple[int, list[float]]]],
    ) -> Scores:
        """Return each row's answers' log-probabilities, asking `compute` for the rows that are not known."""
        keys = [_keys(row.tree) for row in rows]
        missing = [i for i, row in enumerate(keys) if any(k not in self.known for k in row)]
        self.hits += len(rows) - len(missing)
        saved = time.monotonic()
        for place, sums in compute([rows[i] for i in missing]) if missing else ():
            self.known.update(zip(keys[missing[place]], sums, strict=True))
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                self.save()
                saved = time.monotonic()
        if missing:
            self.save()
        return [[self.known[k] for k in row] for row in keys]


def _keys(tree: Tree) -> list[bytes]:
    masks = tree.counted or (None,) * len(tree.answers)
    return [_key(tree.prompt, a, m) for a, m in zip(tree.answers, masks, strict=True)]


def _key(prompt: Sequence[int], answer: Sequence[int], mask: Sequence[bool] | None) -> bytes:
    said = [len(prompt), *prompt, *answer] + ([] if mask is None else [-1, *mask])
    return hashlib.sha256(np.array(said, dtype=np.int64).tobytes()).digest()[:16]


def preference_measures(
    rows: Sequence[Row], policy: Scores, reference: Scores | None, beta: float
) -> dict[str, Any]:
    """Held-out measures of pairs: how often the policy prefers the chosen answer, each with its 95% interval.

    `accuracy` compares summed log-probabilities, `accuracy_per_token` their mean per token, `reward_accuracy`
    implicit rewards against the reference (only when `reference` is given and differs from `policy`). A tie
    counts half.
    """
    logps = np.array(policy, dtype=np.float64).reshape(-1, 2)
    lengths = np.array([row.tree.lengths for row in rows], dtype=np.float64).reshape(-1, 2)
    out: dict[str, Any] = {"n": len(rows)}
    if not rows:
        return out
    out["accuracy"] = _share(logps[:, 0] - logps[:, 1])
    out["accuracy_per_token"] = _share(logps[:, 0] / lengths[:, 0] - logps[:, 1] / lengths[:, 1])
    out["logps/chosen"] = mean_interval(logps[:, 0])
    out["logps/rejected"] = mean_interval(logps[:, 1])
    if reference is not None:
        ratios = logps - np.array(reference, dtype=np.float64).reshape(-1, 2)
        margins = beta * (ratios[:, 0] - ratios[:, 1])
        out["reward_accuracy"] = _share(margins)
        out["rewards/margins"] = mean_interval(margins)
        out["loss"] = mean_interval(np.logaddexp(0.0, -margins))
    return out


def likelihood_measures(rows: Sequence[Row], policy: Scores) -> dict[str, Any]:
    """Held-out measures of demonstrations: negative log-likelihood per token (nats) and perplexity."""
    if not rows:
        return {"n": 0}
    sums = np.array([s[0] for s in policy])
    lengths = np.array([row.tree.lengths[0] for row in rows], dtype=np.float64)
    loss = float(-sums.sum() / lengths.sum())
    return {
        "n": len(rows),
        "loss": {**mean_interval(-sums / lengths), "value": loss},
        "perplexity": float(np.exp(min(loss, 700.0))),
        "tokens": int(lengths.sum()),
    }


def label_measures(
    rows: Sequence[Row], policy: Scores, reference: Scores | None, beta: float
) -> dict[str, Any]:
    """Held-out measures of likes: how often the implicit reward's sign agrees with the label, and its mean
    by label."""
    if not rows or reference is None:
        return {"n": len(rows)}
    rewards = beta * (np.array(policy)[:, 0] - np.array(reference)[:, 0])
    liked = np.array([row.desirable for row in rows])
    out: dict[str, Any] = {"n": len(rows), "reward_accuracy": _share(np.where(liked, rewards, -rewards))}
    for name, chosen in (("rewards/chosen", liked), ("rewards/rejected", ~liked)):
        if chosen.any():
            out[name] = mean_interval(rewards[chosen])
    return out


def _share(margins: Any) -> dict[str, float]:
    wins = float((margins > 0).sum() + 0.5 * (margins == 0).sum())
    return wilson(wins, len(margins))


def as_tensor(scores: Scores) -> Tensor:
    """Return rows of equal width as a float32 tensor (rows, answers)."""
    return torch.tensor(scores, dtype=torch.float32)
