"""N-grams of characters within words: which there are, and how often each is in a text.

A text has a space before and behind it. An n-gram is of two to four characters and has spaces at its ends alone, so
it says where a word begins or ends and never spans two; how many spaces are between words makes no difference.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int32, Int64
from torch import Tensor

LENGTHS = (2, 3, 4)
SPACE = 32
ALPHABET = 50_000  # characters at most: four of them make one whole number below 2^63
CHUNK = 4096  # texts at a time
BUCKETS = 512


class Pool(NamedTuple):
    """N-grams as numbers.

    Args:
        alphabet: code points of their characters, ascending.
        codes: of the n-grams of one length, ascending, for each of `LENGTHS`.
        places: of those among all n-grams, likewise.
    """

    alphabet: Int64[Tensor, " letter"]
    codes: tuple[Int64[Tensor, " gram"], ...]
    places: tuple[Int64[Tensor, " gram"], ...]


def counted(packed: Int[Tensor, "item character"], grams: tuple[str, ...]) -> Float[Tensor, "item gram"]:
    """How often each n-gram is in each text."""
    pool = _pool(grams, packed.device)
    letters = _letters(packed, pool.alphabet)
    counts = torch.zeros(len(packed), len(grams), device=packed.device)
    for length, codes, places in zip(LENGTHS, pool.codes, pool.places, strict=True):
        if not len(codes):
            continue
        found = _codes(letters, len(pool.alphabet), length)
        nearest = torch.searchsorted(codes, found).clamp(max=len(codes) - 1)
        there = (codes[nearest] == found).to(counts.dtype)
        counts.scatter_add_(1, places[nearest], there)
    return counts


def frequent(packed: Int32[np.ndarray, "item character"], most: int) -> tuple[tuple[str, ...], list[int]]:
    """The n-grams that are in the most texts, and in how many; of equally many the earlier in the alphabet."""
    points, uses = np.unique(_spaced(torch.from_numpy(np.array(packed, np.int32))).numpy(), return_counts=True)
    alphabet = np.sort(points[np.argsort(-uses, kind="stable")[:ALPHABET]]).astype(np.int64)
    found: list[tuple[int, str]] = []
    for length in LENGTHS:
        codes, texts = _in_texts(packed, torch.from_numpy(alphabet), length)
        kept = np.argsort(-texts, kind="stable")[:most]
        found += [(int(texts[each]), _spelled(int(codes[each]), alphabet, length)) for each in kept]
    found.sort(key=lambda each: (-each[0], each[1]))
    return tuple(gram for _, gram in found[:most]), [texts for texts, _ in found[:most]]


def hashed(packed: Int[Tensor, "item character"]) -> Float[Tensor, "item bucket"]:
    """Shares of n-grams of three characters in buckets, with nothing fitted."""
    points = _spaced(packed).long()
    sums = points[:, :-2] * 31**2 + points[:, 1:-1] * 31 + points[:, 2:]
    there = (points[:, 1:-1] != SPACE).float()
    counts = torch.zeros(len(points), BUCKETS, device=packed.device).scatter_add_(1, sums % BUCKETS, there)
    return counts / counts.norm(dim=1, keepdim=True).clamp(min=1)


def _spaced(packed: Int[Tensor, "item character"]) -> Int[Tensor, "item place"]:
    """With spaces around, and for the zeros that fill the end."""
    points = torch.where(packed == 0, SPACE, packed)
    return torch.nn.functional.pad(points, (1, 1), value=SPACE)


def _letters(packed: Int[Tensor, "item character"], alphabet: Int64[Tensor, " letter"]) -> Int64[Tensor, "item place"]:
    """Places in the alphabet, from 1; 0 for other characters, and -1 for a space."""
    points = _spaced(packed).long()
    nearest = torch.searchsorted(alphabet, points).clamp(max=len(alphabet) - 1)
    letters = torch.where(alphabet[nearest] == points, nearest + 1, 0)
    return torch.where(points == SPACE, -1, letters)


def _codes(letters: Int64[Tensor, "item place"], size: int, length: int) -> Int64[Tensor, "item start"]:
    """Each n-gram of a length as a number; -1 where it spans words or has another character."""
    windows = letters.unfold(1, length, 1)
    spans = (windows[..., 1:-1] == -1).any(dim=-1) | (windows == -1).all(dim=-1) | (windows == 0).any(dim=-1)
    digits = torch.where(windows == -1, 0, windows)  # where no other character is, 0 is the space's
    codes = torch.zeros_like(digits[..., 0])
    for place in range(length):
        codes = codes * (size + 1) + digits[..., place]
    return torch.where(spans, -1, codes)


def _in_texts(
    packed: Int32[np.ndarray, "item character"], alphabet: Int64[Tensor, " letter"], length: int
) -> tuple[Int64[np.ndarray, " gram"], Int64[np.ndarray, " gram"]]:
    """Numbers of all n-grams of a length, and in how many texts each is."""
    codes, texts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, len(packed), CHUNK):
        some = torch.from_numpy(np.array(packed[start : start + CHUNK]))
        found = _codes(_letters(some, alphabet), len(alphabet), length).sort(dim=1).values
        first = torch.ones_like(found, dtype=torch.bool)
        first[:, 1:] = found[:, 1:] != found[:, :-1]  # once for each text
        own, uses = np.unique(found[first & (found >= 0)].numpy(), return_counts=True)
        codes, places = np.unique(np.concatenate([codes, own]), return_inverse=True)
        texts = np.bincount(places, np.concatenate([texts, uses]), len(codes)).astype(np.int64)
    return codes, texts


def _spelled(code: int, alphabet: Int64[np.ndarray, " letter"], length: int) -> str:
    letters = []
    for _ in range(length):
        code, place = divmod(code, len(alphabet) + 1)
        letters.append(chr(alphabet[place - 1]) if place else " ")
    return "".join(reversed(letters))


@lru_cache(maxsize=16)
def _pool(grams: tuple[str, ...], device: torch.device) -> Pool:
    alphabet = sorted({ord(letter) for gram in grams for letter in gram} - {SPACE})
    digit = {chr(point): place for place, point in enumerate(alphabet, start=1)} | {" ": 0}
    codes, places = [], []
    for length in LENGTHS:
        numbers = {}
        for place, gram in enumerate(grams):
            if len(gram) == length:
                numbers[
                    sum(digit[letter] * (len(alphabet) + 1) ** (length - 1 - at) for at, letter in enumerate(gram))
                ] = place
        codes.append(torch.tensor(sorted(numbers), dtype=torch.int64, device=device))
        places.append(torch.tensor([numbers[code] for code in sorted(numbers)], dtype=torch.int64, device=device))
    return Pool(torch.tensor(alphabet, device=device), tuple(codes), tuple(places))
