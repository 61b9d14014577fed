"""Fingerprints of text for near-duplicate search: words, word pairs, MinHash (rensa).

Two texts are alike by the Jaccard similarity of their sets of words and neighbouring word pairs; case, punctuation
and spacing do not count. Text without spaces (Chinese, Japanese, Thai) is taken by characters. MinHash after Broder
(1997), b-bit sketches after Li and Koenig (arXiv:0910.3349). Texts come as one Arrow column and are taken apart
together, over their bytes: a Python loop over words cost ten times as much.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rensa import RMinHash

Words: TypeAlias = NDArray[np.uint64]
Places: TypeAlias = NDArray[np.int64]

BANDS, ROWS = 8, 5  # 40 permutations: finds 96 % of the pairs at similarity 0.8, 77 % at 0.7
SKETCH_BITS = 128
PRINTED = 2_000  # characters of a text that its fingerprint sees
MAX_CHARACTERS = 20_000  # characters that its verification sees

_SALT = np.uint64(0x9E37_79B9_7F4A_7C15)
_STEP = np.uint64(0xD6E8_FEB8_6659_FD93)
# Unicode punctuation but the underscore, spaces and symbols.
_SIGNS = r"[\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}\p{Z}\p{S}]+"
_IN_WORD = np.array([chr(b).isalnum() or b == 95 if b < 128 else True for b in range(256)])


class Tokens(NamedTuple):
    """Hashed words and word pairs of several texts: those of text i are `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Words
    offsets: Places


def tokens(texts: pa.Array, longest: int = PRINTED) -> Tokens:
    """Take texts (a column of strings without nulls) apart; a word and its pair with the next one lie side by side."""
    plain = _plain(texts, longest)
    data, ends = _bytes(plain)
    word = _IN_WORD[data]
    start, stop = _edges(word, ends)
    count = np.diff(np.searchsorted(np.flatnonzero(start), ends))
    wordless = count == 0
    unspaced = ~wordless & (count * 12 < pc.utf8_length(plain).to_numpy())
    if wordless.any() or unspaced.any():
        lengths = np.diff(ends)
        letter = (data & 0xC0) != 0x80  # the first byte of a character
        unspaced &= count * 12 < np.diff(np.searchsorted(np.flatnonzero(word & letter), ends))
        word |= np.repeat(wordless, lengths)  # nothing but punctuation: the text as it is, as one word
        start, stop = _edges(word, ends, np.repeat(unspaced, lengths) & letter)
    begins, finishes = np.flatnonzero(start), np.flatnonzero(stop) + 1
    hashes = _word_hashes(data, begins, finishes)
    words: Places = np.searchsorted(begins, ends).astype(np.int64)
    paired = hashes.copy()
    if len(hashes):
        paired[:-1] = _mix(hashes[:-1] * _STEP + hashes[1:])
        lasts = words[1:][np.diff(words) > 0] - 1
        paired[lasts] = hashes[lasts]  # the last word of a text has no next one
    both: Words = np.empty(2 * len(hashes), np.uint64)
    both[0::2], both[1::2] = hashes, paired
    return Tokens(both, 2 * words)


def bands(texts: pa.Array) -> NDArray[np.uint64]:
    """Return `BANDS` 64-bit keys of each text, shape (texts, BANDS); texts that share one may be alike."""
    found = tokens(texts)
    mins = _minhash(found.hashes, found.offsets, BANDS * ROWS, 1).reshape(-1, BANDS, ROWS)
    keys = np.broadcast_to(np.arange(1, BANDS + 1, dtype=np.uint64), mins.shape[:2])
    for place in range(ROWS):
        keys = _mix((keys ^ mins[:, :, place]) * _STEP)
    return keys


def sketches(texts: pa.Array, parts: int) -> NDArray[np.uint64]:
    """Return the sketch of each row of `parts` successive texts, shape (rows, 2): two 64-bit halves.

    About `SKETCH_BITS (1 - J) / 2` bits differ between rows of similarity J.
    """
    found = _sided(tokens(texts), parts)
    bits = _minhash(found.hashes, found.offsets, SKETCH_BITS, 2) & 1
    packed = np.packbits(bits.astype(np.uint8), axis=1)
    return packed.view(np.uint64).reshape(-1, SKETCH_BITS // 64)


def features(texts: pa.Array, parts: int = 1) -> list[Words]:
    """Return the distinct features of each row of `parts` successive texts, sorted.

    The same words on the other side (chosen, rejected) are others.
    """
    found = tokens(texts, MAX_CHARACTERS)
    if parts > 1:
        found = _sided(found, parts)
    return [np.unique(found.hashes[a:b]) for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def jaccard(one: Words, other: Words) -> float:
    """Return the Jaccard similarity of two sorted sets of features, 0 to 1."""
    together = np.concatenate((one, other))
    together.sort(kind="stable")
    shared = int(np.count_nonzero(together[1:] == together[:-1]))
    return shared / (len(together) - shared) if len(together) else 1.0


def _plain(texts: pa.Array, longest: int) -> pa.Array:
    """Return texts in lower case and cut off, with signs and spaces beyond ASCII as spaces."""
    cut = pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, longest))
    foreign = pc.not_equal(pc.utf8_length(cut), pc.binary_length(cut))
    if pc.any(foreign).as_py():
        cleaned = pc.replace_substring_regex(cut.filter(foreign), _SIGNS, " ")
        cut = pc.replace_with_mask(cut, foreign, cleaned)
    return cut


def _bytes(texts: pa.Array) -> tuple[NDArray[np.uint8], Places]:
    """Return the bytes of a column of strings, one text after the other, and where each begins and the last ends."""
    whole = texts.cast(pa.large_string())
    _, places, data = whole.buffers()
    ends = np.frombuffer(places, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    if data is None:
        return np.empty(0, np.uint8), ends - ends[0]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]], ends - ends[0]


def _edges(
    word: NDArray[np.bool_], ends: Places, forced: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which bytes begin a word and which end one; a word also begins where a text or `forced` does."""
    fresh: NDArray[np.bool_] = np.zeros(len(word) + 1, bool)
    fresh[ends] = True
    if forced is not None:
        fresh[:-1] |= forced
    start = word.copy()
    start[1:] &= fresh[1:-1] | ~word[:-1]
    stop = word.copy()
    stop[:-1] &= fresh[1:-1] | ~word[1:]
    return start, stop


def _word_hashes(data: NDArray[np.uint8], begins: Places, finishes: Places) -> Words:
    """Return hashes of the byte ranges, made of their length and their first and last eight bytes."""
    padded = np.concatenate((data, np.zeros(8, np.uint8)))
    windows: Words = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    length = finishes - begins
    held = np.minimum(length, 8).astype(np.uint64)
    mask = np.uint64(2**64 - 1) >> (np.uint64(64) - np.uint64(8) * held)
    head = windows[begins] & mask
    tail = windows[np.maximum(finishes - 8, begins)] & mask
    return _mix(head * _STEP + (_mix(tail) ^ length.astype(np.uint64)))


def _mix(values: Words) -> Words:
    values = (values ^ (values >> np.uint64(32))) * _STEP
    return np.asarray(values ^ (values >> np.uint64(29)), np.uint64)


def _sided(found: Tokens, parts: int) -> Tokens:
    """Return the tokens of rows of several texts, each side's apart from the others'."""
    side = np.arange(len(found.offsets) - 1, dtype=np.uint64) % np.uint64(parts)
    salt: Words = np.repeat(side * _SALT, np.diff(found.offsets))
    return Tokens(found.hashes ^ salt, found.offsets[::parts])


def _minhash(hashes: Words, offsets: Places, permutations: int, seed: int) -> NDArray[np.uint64]:
    made = RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(hashes), offsets.astype(np.uint64), permutations, seed
    )
    return np.array(made.to_rows(), np.uint64).reshape(-1, permutations)
