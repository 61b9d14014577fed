"""Fingerprints of text for near-duplicate search: words, word pairs, MinHash (datasketch).

Two texts are alike by the Jaccard similarity of their sets of words and neighbouring word pairs; case, punctuation
and spacing do not count. Text without spaces (Chinese, Japanese, Thai) is taken by characters. MinHash after Broder
(1997), b-bit sketches after Li and Koenig (arXiv:0910.3349).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

BANDS, ROWS = 8, 5  # 40 permutations: finds 96 % of the pairs at similarity 0.8, 22 % at 0.5
SKETCH_BITS = 64
PRINTED = 2_000  # characters of a text that its fingerprint sees
LONGEST = 20_000  # characters that its verification sees

_WORD = re.compile(r"\w+")
_prompt_minhash = MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int, scheme="affine32")
_sketch_minhash = MinHash(num_perm=SKETCH_BITS, seed=2, hashfunc=int, scheme="affine32")


def features(text: str) -> NDArray[np.uint32]:
    """Return the distinct hashed words and word pairs of a text, shape (features,)."""
    return np.unique(_hashes(text, LONGEST))


def bands(text: str) -> list[int]:
    """Return `BANDS` 64-bit keys; texts that share one may be alike."""
    mins = _minhash(_prompt_minhash, _hashes(text, PRINTED)).reshape(BANDS, ROWS).astype(np.uint64)
    keys = np.full(BANDS, 1_469_598_103_934_665_603, np.uint64) + np.arange(BANDS, dtype=np.uint64)
    for column in mins.T:
        keys = (keys ^ column) * np.uint64(1_099_511_628_211)
    return [int(key) for key in keys]


def sketch(parts: Iterable[str]) -> int:
    """Return a 64-bit sketch of a row's parts; about `64 (1 - J) / 2` bits differ between rows of similarity J."""
    hashes = np.concatenate([_hashes(part, PRINTED) + _side(n) for n, part in enumerate(parts)])
    bits = _minhash(_sketch_minhash, hashes) & np.uint32(1)
    return int.from_bytes(np.packbits(bits.astype(np.uint8)).tobytes(), "big")


def row_features(parts: Iterable[str]) -> NDArray[np.uint32]:
    """Return the features of a row; the same words on the other side (chosen, rejected) are others."""
    sides = [features(part) + _side(n) for n, part in enumerate(parts)]
    return np.unique(np.concatenate(sides))


def jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Return the Jaccard similarity of two sets of features, 0 to 1."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def _hashes(text: str, longest: int) -> NDArray[np.uint32]:
    text = text[:longest].casefold()
    words = _WORD.findall(text)
    if len(words) * 12 < len(text):
        words = list("".join(words))
    if not words:
        return np.array([zlib.crc32(text.encode())], np.uint32)
    single = np.fromiter(map(_word_hashes.__getitem__, words), np.uint32, len(words))
    return np.concatenate((single, single[:-1] * np.uint32(2_654_435_761) + single[1:]))


def _side(number: int) -> np.uint32:
    return np.uint32(977 * number)


class _Hashes(dict[str, int]):
    """CRC-32 of words, remembered; emptied when it has grown large."""

    def __missing__(self, word: str) -> int:
        if len(self) > 500_000:
            self.clear()
        self[word] = value = zlib.crc32(word.encode("utf-8", "replace"))
        return value


_word_hashes = _Hashes()


def _minhash(empty: MinHash, hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    made = empty.copy()
    made.update_batch(hashes.tolist())
    values: NDArray[np.uint32] = np.asarray(made.hashvalues, np.uint32)
    return values
