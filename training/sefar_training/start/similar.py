"""Groups clips by how they look: near-duplicates, and clips that seem to be from the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from .look import ClipLook, pictures_of

BINS = (8, 16, 16)
"""Bins of a picture's histogram in lightness and the two colours of CIELAB."""

THRESHOLDS = (0.8, 0.65, 0.5, 0.35)
"""Hellinger distances, times √2, below which clips are of one group; the first that divides the clips is used.

Chosen on 371 tennis clips of 44 venues: at 0.8, 80 % of the pairs from one venue are in one group.
"""

LARGEST = 0.5
"""A group with more than this share of the clips does not divide them."""

COMPARED = 3000
"""Most clips that are all compared with each other; further ones join the group of the most similar one."""

DUPLICATE = 0.03
"""Root mean square difference of small pictures, of 1, below which clips are near-duplicates."""

_BLOCK = 512


@dataclass(frozen=True)
class LookAlikes:
    """Groups of clips that look alike.

    Attributes:
        groups: int64 (N,), the group of each clip, from 0.
        threshold: that was used; None if none divides the clips, which then are all of group 0.
    """

    groups: NDArray[np.int64]
    threshold: float | None


class UnionFind:
    """Sets of numbers that are joined pair by pair.

    Args:
        count: how many numbers, from 0.
    """

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, number: int) -> int:
        """The number that stands for a set."""
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number

    def join(self, a: int, b: int) -> None:
        """Join the sets of two numbers; the smaller root stands for both."""
        a, b = sorted((self.root(a), self.root(b)))
        self._above[b] = a

    def groups(self) -> NDArray[np.int64]:
        """The set of each number, numbered from 0 in the order of their first numbers."""
        return np.unique([self.root(number) for number in range(len(self._above))], return_inverse=True)[1]


def look_alikes(looks: Sequence[ClipLook]) -> LookAlikes:
    """Group clips that seem to be from the same place, by the colours of their first and middle frames.

    Clusters are joined while the mean distance between them is below a threshold (average linkage): joining pair by
    pair would chain different places together.

    Args:
        looks: usable clips.
    """
    count = len(looks)
    if count < 2:
        return LookAlikes(np.zeros(count, np.int64), None)
    first, middle = (np.array([_histogram(pictures[k]) for pictures in pictures_of(looks)], np.float32) for k in (0, 1))
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:COMPARED])
    between = _distances((first[chosen], middle[chosen]), (first[chosen], middle[chosen]))
    np.fill_diagonal(between, 0)
    tree = linkage(squareform(between, checks=False), "average")
    for threshold in THRESHOLDS:
        groups = fcluster(tree, threshold, "distance").astype(np.int64)
        if np.bincount(groups).max() <= max(LARGEST * len(chosen), 1):
            break
    else:
        return LookAlikes(np.zeros(count, np.int64), None)
    everyone = np.empty(count, np.int64)
    everyone[chosen] = groups
    rest = np.setdiff1d(np.arange(count), chosen)
    for start in range(0, len(rest), _BLOCK):
        some = rest[start : start + _BLOCK]
        nearest = _distances((first[some], middle[some]), (first[chosen], middle[chosen])).argmin(1)
        everyone[some] = groups[nearest]
    _, numbers = np.unique(everyone, return_inverse=True)
    return LookAlikes(numbers.astype(np.int64), threshold)


def _histogram(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Square roots of the shares of each colour: their Euclidean distance is Hellinger's, times √2."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, list(BINS), [0, 256] * 3).ravel()
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)


Both = tuple[NDArray[np.float32], NDArray[np.float32]]


def _distances(a: Both, b: Both) -> NDArray[np.float32]:
    """Distances between clips (N,M): that of their first frames or of their middle ones, whichever is smaller."""
    of_frames = [np.sqrt(np.maximum(2 - 2 * x @ y.T, 0)) for x, y in zip(a, b, strict=True)]
    return np.asarray(np.minimum(*of_frames), np.float32)


def near_duplicates(looks: Sequence[ClipLook]) -> list[list[int]]:
    """Find clips whose first and middle frames both look the same.

    Args:
        looks: usable clips.

    Returns:
        Numbers of the clips of each group of two or more.
    """
    small = np.array([[_small(picture) for picture in pictures] for pictures in pictures_of(looks)], np.float32)
    sets = UnionFind(len(looks))
    flat = small.reshape(len(looks), 2, -1)
    squares = (flat**2).sum(2)
    limit = DUPLICATE**2 * flat.shape[2]
    for start in range(0, len(looks), _BLOCK):
        part = slice(start, start + _BLOCK)
        apart = [squares[part, k][:, None] + squares[:, k][None] - 2 * flat[part, k] @ flat[:, k].T for k in (0, 1)]
        for i, j in np.argwhere(np.maximum(*apart) < limit):
            sets.join(start + int(i), int(j))
    return members(sets.groups(), least=2)


def _small(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (16, 12), interpolation=cv2.INTER_AREA) / 255, np.float32)


def members(groups: Iterable[int], least: int = 1) -> list[list[int]]:
    """Numbers of the clips of each group that has at least so many."""
    found: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        found.setdefault(int(group), []).append(number)
    return [numbers for numbers in found.values() if len(numbers) >= least]
