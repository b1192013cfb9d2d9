"""Several processes train as one would: the same photos a step, the whole validation split, one that writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import small_config
from training_job import ObservedModule, arguments_of, observed

from tests.robustness.forked import start
from twincar.core.errors import UsageError
from twincar.core.runs import Epoch, RunFolder
from twincar.data.loading.loader import EpochSampler
from twincar.data.loading.shard import Shard
from twincar.training.distributed import Processes, is_lost_connection
from twincar.training.train import train

BATCH = 8


def places_of(shard: Shard, photos: int) -> list[list[int]]:
    """Places in the epoch that a process takes, batch by batch."""
    sampler = EpochSampler(np.zeros(photos, np.int64), batch_size=BATCH, balanced=False, seed=0, shard=shard)
    places = [place for *_, place in sampler]
    size = BATCH // shard.count
    assert len(places) == len(sampler)
    return [places[first : first + size] for first in range(0, len(places), size)]


@pytest.mark.parametrize(("count", "taken_of_last"), [(1, 5), (2, 4), (4, 0)])
def test_the_parts_of_a_batch_are_the_batch(count: int, taken_of_last: int) -> None:
    """Each photo once, parts of equal size, photo i with the one that it may be mixed with; the last batch has 5."""
    parts = [places_of(Shard(rank, count), 21) for rank in range(count)]
    expected = [list(range(8)), list(range(8, 16)), list(range(16, 16 + taken_of_last))]
    for batch, of_batch in zip([places for places in expected if places], zip(*parts, strict=True), strict=True):
        assert sorted(place for places in of_batch for place in places) == batch
        assert len({len(places) for places in of_batch}) == 1
        for places in of_batch:
            assert [a + b for a, b in zip(places, reversed(places), strict=True)] == [batch[0] + batch[-1]] * len(
                places
            )


def test_the_photos_of_the_parts_are_those_one_process_would_take() -> None:
    labels = np.repeat([0, 1, 2], [20, 9, 3])  # 32
    samplers = [EpochSampler(labels, batch_size=BATCH, balanced=True, seed=5, shard=Shard(r, 2)) for r in range(2)]
    alone = EpochSampler(labels, batch_size=BATCH, balanced=True, seed=5)
    for sampler in (*samplers, alone):
        sampler.set_epoch(3)
    assert sorted(key for sampler in samplers for key in sampler) == sorted(alone)


def test_a_batch_that_cannot_be_shared_is_refused(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 6, twice the number of devices, but found 8"):
        train(small_config(small_data), tmp_path / "run", devices=3)
    assert not (tmp_path / "run").exists()


def test_what_torchrun_has_started_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Processes.started(None, None) == Processes(1, 1)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert Processes.started(None, None) == Processes(3, 2)
    assert Processes(3, 2).shard().count == 6
    with pytest.raises(UsageError, match="the 6 processes that torchrun has started, but found 2 times 2"):
        Processes.started(2, None).shard()


def test_a_lost_connection_is_told_from_other_errors() -> None:
    assert is_lost_connection(RuntimeError("[../third_party/gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert not is_lost_connection(RuntimeError("shape '[2]' is invalid"))


def assert_same(first: list[Epoch], second: list[Epoch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-4, abs=1e-5)


def test_two_processes_train_as_one(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Mixup and CutMix, without dropout, and with batch norms that do not look at the batch."""
    config = small_config(small_data, dropout=0.0, learning_rate=1e-4)
    monkeypatch.setenv("FROZEN_NORMS", "1")
    code, out = start(observed, [*arguments_of(config, tmp_path / "two"), "--devices", "2"]).finish()
    assert code == 0, out
    assert out.count("Best epoch") == 1  # one process speaks
    monkeypatch.setattr("twincar.training.train.TrainingModule", ObservedModule)
    alone = train(config, tmp_path / "one")
    assert_same(RunFolder.open(tmp_path / "two").read_history(), alone.history)
