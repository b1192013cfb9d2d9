"""Find duplicate photos: the same bytes, or the same picture re-encoded, resized, mirrored or slightly cropped.

Pairs of photos whose perceptual hashes differ in few bits are candidates. The distance of two hashes is an inner
product, so all photos are compared with all by matrix products, block by block. Thumbnails confirm a candidate: one is
aligned with the other by the affine map of highest correlation (ECC; Evangelidis and Psarakis, 2008). Two copies of one
picture then agree in grey levels and in details; two cars in the same pose before the same background do not.

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
"""Most bits, of 256, in which the hashes of candidates may differ. For 120 box crops of Stanford Cars, copies that were
re-encoded (JPEG quality 10), halved, mirrored, converted to grey, made 30% brighter, or cropped by 2% differed in at
most 30; those cropped by 5% in 44 in the median, so that about two thirds of them are found; those cropped by 10% in
86, so that they are not. Beyond this distance, toy cars that are drawn alike begin to pass the comparison of
thumbnails: three pairs between 52 and 64."""
MIN_LIKENESS, MIN_DETAIL = 0.98, 0.85
"""Least correlation of two aligned thumbnails, and of their details, with which they count as one picture. Of all pairs
within `MAX_DISTANCE` among 7,329 box crops of Stanford Cars, 26 pass, each of which is one picture to the eye; the
highest pair that is not (a coupe and a convertible in one studio) has 0.93 and 0.84. Of 2,496 toy cars, whose twins are
drawn alike, none passes; the highest pair has 0.9798 and 0.945. The copies above that do not pass were 80 pixels
large."""
_BLOCK = 2048  # photos in a block, of which each is compared with each of another block: 16 MB of distances
_DETAIL = 3.0  # pixels of a thumbnail; slower changes come from the pose and the light
# Steps of the alignment: at most 50, or until nothing is gained.
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-4)
_SMOOTHING = 5  # pixels of a thumbnail; side of the Gaussian that widens the reach of the alignment
_OVERLAP = 0.6  # least share of a thumbnail that the other must cover


@dataclass(frozen=True)
class Pair:
    """Two photos of one picture, by their indices in the data set; `first` < `second`."""

    first: int
    second: int
    distance: int
    """Number of bits in which the hashes differ, 0 to B."""
    likeness: float
    """Correlation of the aligned thumbnails, -1 to 1."""
    mirrored: bool
    exact: bool
    """Whether the files have the same bytes."""


@dataclass(frozen=True)
class Group:
    """Photos of one picture, connected by pairs."""

    photos: tuple[int, ...]
    """Indices in the data set, ascending; at least two."""
    pairs: tuple[Pair, ...]

    def mirrored(self) -> frozenset[int]:
        """The photos that are mirrored relative to the first one."""
        mirrored = {self.photos[0]: False}
        while len(mirrored) < len(self.photos):
            for pair in self.pairs:
                for known, other in ((pair.first, pair.second), (pair.second, pair.first)):
                    if known in mirrored:
                        mirrored.setdefault(other, mirrored[known] ^ pair.mirrored)
        return frozenset(index for index, is_mirrored in mirrored.items() if is_mirrored)


def find_duplicates(signatures: Signatures, digests: Sequence[str]) -> list[Group]:
    """The groups of photos that are one picture, in the order of their first photos.

    Args:
        signatures: of N photos.
        digests: SHA-256 of their files, N.
    """
    indices: defaultdict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        indices[digest].append(index)
    # Equal files are paired with the first of them only: all pairs of a thousand copies would be half a million.
    pairs = [Pair(first, copy, 0, 1.0, False, True) for first, *copies in indices.values() for copy in copies]
    firsts = np.array([first for first, *_ in indices.values()], np.int64)
    signed = signatures.take(firsts.tolist())
    for one, other, distance, mirrored in _candidates(signed.hashes):
        likeness, detail = compare_thumbnails(signed.thumbnails[one], signed.thumbnails[other], mirrored=mirrored)
        if likeness >= MIN_LIKENESS and detail >= MIN_DETAIL:
            first, second = sorted((int(firsts[one]), int(firsts[other])))
            pairs.append(Pair(first, second, distance, likeness, mirrored, False))
    return _grouped(pairs, len(digests))


def group_numbers(groups: Sequence[Group], count: int) -> NDArray[np.int64]:
    """A number for each photo, N; it is the same for the photos of one group and unique for all others."""
    numbers = np.arange(count)
    for group in groups:
        numbers[list(group.photos)] = group.photos[0]
    return numbers


def compare_thumbnails(
    one: NDArray[np.uint8], other: NDArray[np.uint8], *, mirrored: bool = False
) -> tuple[float, float]:
    """The correlations, -1 to 1, of two thumbnails, T×T, and of their details where they overlap after alignment.

    Details are what is left after a Gaussian blur is subtracted. Both are 0 for thumbnails that cannot be aligned, such
    as plain ones.
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
    overlap = covered > 0.99  # without the pixels into which the edge was interpolated
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
    """Pairs of photos within `MAX_DISTANCE`: first, second, distance, whether the mirror image is nearer.

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
        Group(tuple(sorted({index for pair in linked for index in (pair.first, pair.second)})), tuple(linked))
        for linked in by_group.values()
    ]
    return sorted(groups, key=lambda group: group.photos)
