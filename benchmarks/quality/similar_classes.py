"""Whether the cars that look most alike are of one class: precision at 1 and at 5, over an index of class folders.

    twincar index FOLDER --cars main --out cars.parquet     # FOLDER/CLASS/PHOTO
    python -m benchmarks.quality.similar_classes cars.parquet

Each photo is compared with all others. Precision at 5 has two forms: the share of the five most similar cars that have
the photo's class, and the same as a share of the most there can be, because a class may have fewer than six photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from twincar.metrics.classification import wilson

_RANKS = 5
_BLOCK = 512  # photos that are compared with all at once


def main() -> None:
    """Print the precision of an index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    table = parquet.read_table(parser.parse_args().index, columns=["photo", "embedding"])
    vectors = np.array(table["embedding"].combine_chunks().flatten(), np.float32).reshape(len(table), -1)
    _, classes = np.unique([Path(photo).parent.name for photo in table["photo"].to_pylist()], return_inverse=True)
    others = np.bincount(classes)[classes] - 1
    known = others > 0
    right = same_class(vectors, classes)[known]
    print(f"{len(right)} photos of {len(np.unique(classes[known]))} classes, {(~known).sum()} alone in their class")
    print(f"precision at 1: {wilson(float(right[:, 0].mean()), len(right))}")
    possible = np.minimum(others[known], _RANKS).sum()
    print(f"precision at {_RANKS}: {right.mean():.3f}, {right.sum() / possible:.3f} of what is possible")
    print(f"at least one of {_RANKS} has the class: {right.any(axis=1).mean():.3f}")


def same_class(vectors: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the most similar others of each row have its class, N×5, from vectors of unit length, N×D."""
    found = []
    for start in range(0, len(vectors), _BLOCK):
        similarities = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(similarities))
        similarities[rows, start + rows] = -np.inf
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :_RANKS]
        found.append(classes[nearest] == classes[start + rows, None])
    return np.concatenate(found)


if __name__ == "__main__":
    main()
