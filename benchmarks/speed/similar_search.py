"""How long a search of an index takes, how much memory it needs, and how far its 8-bit codes are from the embeddings.

    python -m benchmarks.speed.similar_search [--rows 1000000]

The rows are random, around as many centres as there are cars; what they are makes no difference to the time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import describe_machine
from twincar.inference.embedding import EmbeddedCar, unit_length
from twincar.inference.photo_index import MODEL_KEY, index_schema, open_writer, to_table
from twincar.inference.similar import search_index

FEATURES = 1280
_GROUP = 1000
_CARS = 196
_COUNT = 12
_SPREAD = 0.5  # of a row around its centre, as a share of the centre's length


def main() -> None:
    """Write an index, search it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=7, help="searches, each for another car")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cars.parquet")
        queries, best = write_index(path, arguments.rows, arguments.times)
        search_index(path, queries[0], _COUNT)  # reads the file into the page cache, and imports what it needs
        seconds, errors, found = [], [], 0
        for query, expected in zip(queries, best, strict=True):
            start = time.perf_counter()
            cars, _ = search_index(path, query, _COUNT)
            seconds.append(time.perf_counter() - start)
            found += len({car.photo for car in cars} & set(expected))
            errors += [abs(car.similarity - expected[car.photo]) for car in cars if car.photo in expected]
        size = path.stat().st_size / 1e9
    print(f"{arguments.rows:,} rows of {FEATURES} features, {size:.2f} GB")
    print(describe_machine())
    print(f"search for {_COUNT}: median {median(seconds):.2f} s, longest {max(seconds):.2f} s of {arguments.times}")
    print(f"memory of the process after them, without the pages of the file: {_private_memory():.0f} MB")
    asked = _COUNT * arguments.times
    print(f"found {found} of {asked} that the embeddings rank first; largest error {max(errors):.4f}")


def write_index(path: Path, rows: int, times: int) -> tuple[NDArray[np.float32], list[dict[str, float]]]:
    """Write random rows; returns embeddings to search for, and of each the best rows by float32, with similarities."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(_CARS, FEATURES)).astype(np.float32) ** 2  # as features after a rectifier: not negative
    queries = unit_length(_around(rng, centres[rng.integers(_CARS, size=times)]))
    best: list[dict[str, float]] = [{} for _ in range(times)]
    schema = index_schema(FEATURES, {MODEL_KEY: "random"})
    with open_writer(path, schema) as writer:
        for start in range(0, rows, _GROUP):
            features = _around(rng, centres[rng.integers(_CARS, size=min(_GROUP, rows - start))])
            cars = [EmbeddedCar(f"{start + row}.jpg", values) for row, values in enumerate(features)]
            writer.write_table(to_table(cars, schema))
            for number, similarities in enumerate(queries @ unit_length(features).T):
                every = best[number] | {f"{start + row}.jpg": float(s) for row, s in enumerate(similarities)}
                best[number] = dict(sorted(every.items(), key=lambda item: -item[1])[:_COUNT])
    return queries, best


def _around(rng: np.random.Generator, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = rng.normal(size=centres.shape).astype(np.float32)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True) / np.sqrt(FEATURES)
    rows: NDArray[np.float32] = np.maximum(centres + _SPREAD * lengths * noise, 0)
    return rows


def _private_memory() -> float:
    """Megabytes that this process keeps, without the pages of files, which are those of the system."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
