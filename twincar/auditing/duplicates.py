"""Find duplicate photos: the same bytes, or the same picture re-encoded, resized, mirrored or slightly cropped.

Two steps. Hashes that differ in few bits name candidates; their distance is an inner product, so that matrix products
compare all photos with all, block by block. Thumbnails then confirm them: one is laid over the other by the affine map
that makes them most alike (ECC; Evangelidis and Psarakis, 2008), after which two prints of one picture agree in shades
and in details, and two cars in the same pose before the same background do not.

Shapes: N photos, B bits of a hash, T pixels of a thumbnail's side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from twincar.auditing.signatures import BITS, THUMBNAIL, Signatures

MAX_DISTANCE = 48
"""Bits of 256 two hashes may differ in. Of 120 box crops of Stanford Cars, a copy that was re-encoded (JPEG quality
10), halved, mirrored, grey, by 30% brighter, or cut by 2% differed in at most 30; one cut by 5% in 44 in the median, so
that about two thirds of those are found; one cut by 10% in 86, and those are not. Further out it is toy cars, drawn
alike, that come to agree as well as copies do: three between 52 and 64."""
MIN_LIKENESS, MIN_DETAIL = 0.98, 0.85
"""Correlation of two aligned thumbnails, of themselves and of their details, from which they are one picture. Of all
pairs within `MAX_DISTANCE` among 7,329 box crops of Stanford Cars, 26 pass, each one picture by eye; the nearest two
that are not (a coupe and a convertible in one studio) have 0.93 and 0.84. Of 2,496 toy cars, whose twins are drawn to
be alike, none passes; the nearest have 0.9798 and 0.945. What of the copies above falls short was 80 pixels large."""
_BLOCK = 2048  # photos compared with as many at once: 16 MB of distances
_DETAIL = 3.0  # pixels of a thumbnail; shades that change more slowly are the pose and the light
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-4)  # of the alignment: at most 50, or no more gain
_SMOOTHING = 5  # pixels of a thumbnail; side of the Gaussian that widens the reach of the alignment
_OVERLAP = 0.6  # share of a thumbnail that the other must cover; two that share less are not one picture


@dataclass(frozen=True)
class Pair:
    """Two photos of one picture, by their indices in the data set; `first` < `second`."""

    first: int
    second: int
    distance: int
    """Bits the hashes differ in, 0 to B."""
    likeness: float
    """Correlation of the aligned thumbnails, -1 to 1."""
    mirrored: bool
    exact: bool
    """The files are the same byte for byte."""


@dataclass(frozen=True)
class Group:
    """Photos of one picture, each linked to another of them by a pair."""

    photos: tuple[int, ...]
    """Indices in the data set, ascending; at least two."""
    pairs: tuple[Pair, ...]

    def turned(self) -> frozenset[int]:
        """The photos that show the picture the other way round than the first one does."""
        ways = {self.photos[0]: False}
        while len(ways) < len(self.photos):
            for pair in self.pairs:
                for known, other in ((pair.first, pair.second), (pair.second, pair.first)):
                    if known in ways:
                        ways.setdefault(other, ways[known] ^ pair.mirrored)
        return frozenset(place for place, way in ways.items() if way)


def find_duplicates(signatures: Signatures, digests: Sequence[str]) -> list[Group]:
    """Every group of photos that are one picture, in the order of their first photos.

    Args:
        signatures: of N photos.
        digests: SHA-256 of their files, N.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    # Equal files are linked to the first of them alone: a thousand copies would make half a million pairs.
    pairs = [Pair(first, copy, 0, 1.0, False, True) for first, *copies in places.values() for copy in copies]
    firsts = np.array([first for first, *_ in places.values()], np.int64)
    signed = signatures.take(firsts.tolist())
    for one, other, distance, mirrored in _candidates(signed.hashes):
        likeness, detail = compare_thumbnails(signed.thumbnails[one], signed.thumbnails[other], mirrored=mirrored)
        if likeness >= MIN_LIKENESS and detail >= MIN_DETAIL:
            first, second = sorted((int(firsts[one]), int(firsts[other])))
            pairs.append(Pair(first, second, distance, likeness, mirrored, False))
    return _grouped(pairs, len(digests))


def group_numbers(groups: Sequence[Group], count: int) -> NDArray[np.int64]:
    """Equal numbers for photos of one group, others for all else; N."""
    numbers = np.arange(count)
    for group in groups:
        numbers[list(group.photos)] = group.photos[0]
    return numbers


def compare_thumbnails(
    one: NDArray[np.uint8], other: NDArray[np.uint8], *, mirrored: bool = False
) -> tuple[float, float]:
    """How well two thumbnails, T×T, agree where they overlap once they are aligned: in all, and in their details.

    Both are correlations, -1 to 1; details are what is left after a Gaussian blur is subtracted. Thumbnails that
    cannot be aligned, such as plain ones, agree in nothing.
    """
    still, moved = (np.ascontiguousarray(thumbnail, np.float32) for thumbnail in (one, _mirror(other, mirrored)))
    start, everywhere = np.eye(2, 3, dtype=np.float32), np.ones(still.shape, np.uint8)
    try:
        _, turn = cv2.findTransformECC(still, moved, start, cv2.MOTION_AFFINE, _STEPS, everywhere, _SMOOTHING)
    except cv2.error:
        return 0.0, 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    aligned, covered = (
        np.asarray(cv2.warpAffine(picture, turn, (THUMBNAIL, THUMBNAIL), flags=flags), np.float32)
        for picture in (moved, np.ones_like(moved))
    )
    overlap = covered > 0.99  # what the edge was mixed into is left out
    if overlap.mean() < _OVERLAP:
        return 0.0, 0.0
    likeness = _correlation(still[overlap], aligned[overlap])
    return likeness, _correlation(_details(still)[overlap], _details(aligned)[overlap])


def _mirror(thumbnail: NDArray[np.uint8], mirrored: bool) -> NDArray[np.uint8]:
    return thumbnail[:, ::-1] if mirrored else thumbnail


def _details(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    details: NDArray[np.float32] = picture - cv2.GaussianBlur(picture, (0, 0), _DETAIL)
    return details


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / spread if spread else 0.0


def _candidates(hashes: NDArray[np.uint8]) -> Iterator[tuple[int, int, int, bool]]:
    """Pairs of photos within `MAX_DISTANCE`: first, second, distance, whether one is nearer to the other's mirror.

    With bits as signs, two hashes differ in (B - a·b) / 2 bits; sums of 256 ones are exact in float32.
    """
    count = len(hashes)
    for top in range(0, count, _BLOCK):
        rows = _signs(hashes[top : top + _BLOCK, 0])
        for left in range(top, count, _BLOCK):
            block = hashes[left : left + _BLOCK]
            plain, mirrored = (rows @ _signs(block[:, view]).T for view in (0, 1))
            near = np.argwhere(np.maximum(plain, mirrored) >= BITS - 2 * MAX_DISTANCE)
            for row, column in near.tolist():
                if top + row < left + column:
                    alike = max(plain[row, column], mirrored[row, column])
                    is_mirrored = bool(mirrored[row, column] > plain[row, column])
                    yield top + row, left + column, int(BITS - alike) // 2, is_mirrored


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def _grouped(pairs: Sequence[Pair], count: int) -> list[Group]:
    links = ([pair.first for pair in pairs], [pair.second for pair in pairs])
    graph = sparse.coo_array((np.ones(len(pairs), np.int8), links), shape=(count, count))
    _, member = sparse.csgraph.connected_components(graph, directed=False)
    by_group: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_group[int(member[pair.first])].append(pair)
    groups = [
        Group(tuple(sorted({place for pair in linked for place in (pair.first, pair.second)})), tuple(linked))
        for linked in by_group.values()
    ]
    return sorted(groups, key=lambda group: group.photos)
