from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import killed_while_making

from twincar.core.augmentation import AugmentConfig
from twincar.core.errors import PhotoError, StorageError, UsageError
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import CACHE, PreparedData
from twincar.data.loading import cache as cache_module
from twincar.data.loading.loader import TrainingPhotos, training_loader

SMALL = Preprocessing(height=32, width=48)
CONFIG = AugmentConfig(crop_ratio=(1.2, 1.8))


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> PreparedData:
    """A copy that may get a cache."""
    opened = PreparedData.open(small_data)
    folder = shutil.copytree(small_data, tmp_path / "data")
    return PreparedData(folder, opened.photo_root, opened.classes, opened.annotations, opened.manifest)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "twincar"):
        yield caplog


def photos(data: PreparedData, *, cache: bool = True, augment: AugmentConfig = CONFIG) -> TrainingPhotos:
    return TrainingPhotos(data, augment, SMALL, seed=0, cache=cache)


def files(data: PreparedData) -> list[Path]:
    return sorted((data.folder / CACHE).iterdir())


def test_the_same_draws_give_the_same_pictures(data: PreparedData) -> None:
    with_cache, without = photos(data), photos(data, cache=False)
    differences = []
    for index in range(len(without)):
        ours, label = with_cache[index, 2, index]
        expected, expected_label = without[index, 2, index]
        assert (ours.shape, ours.dtype, label) == (expected.shape, np.uint8, expected_label)
        differences.append(abs(ours.astype(float) - expected).mean())
    assert np.mean(differences) < 8  # hard edges of drawn cars, picked by the nearest pixel
    other = with_cache[1, 2, 0][0].astype(float)
    assert np.mean(differences) < abs(other - without[0, 2, 0][0]).mean() / 3


def test_an_epoch_touches_no_photo(data: PreparedData, tmp_path: Path) -> None:
    photos(data)
    lost = PreparedData(data.folder, tmp_path / "nowhere", data.classes, data.annotations, data.manifest)
    loader = training_loader(photos(lost), batch_size=8, balanced=False, workers=1)
    assert sum(len(labels) for _, labels in loader) == len(data.split("train"))


def test_its_size_is_told_before_it_is_built_and_it_is_built_once(
    data: PreparedData, told: pytest.LogCaptureFixture
) -> None:
    photos(data)
    assert len(files(data)) == 1
    size = files(data)[0].stat().st_size
    assert f"{size / 1e9:.2f} GB" in told.messages[0]
    written = files(data)[0].stat().st_mtime_ns
    photos(data)
    assert files(data)[0].stat().st_mtime_ns == written
    assert len(told.messages) == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty"])
def test_a_damaged_or_foreign_file_is_built_anew(
    data: PreparedData, told: pytest.LogCaptureFixture, damage: str
) -> None:
    expected = photos(data)[3, 0, 0][0]
    path = files(data)[0]
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "foreign": bytes(len(whole)),
            "empty": b"",
        }[damage]
    )
    np.testing.assert_array_equal(photos(data)[3, 0, 0][0], expected)
    assert path.read_bytes() == whole
    assert any("damaged" in message for message in told.messages)


def test_other_crops_sizes_or_data_have_a_file_of_their_own(data: PreparedData) -> None:
    photos(data)
    photos(data, augment=AugmentConfig(crop_ratio=(1.2, 1.7)))
    TrainingPhotos(data, CONFIG, Preprocessing(height=48, width=48), seed=0, cache=True)
    changed = {**data.manifest, "sha256": {**data.manifest["sha256"], "annotations.csv": "0" * 64}}
    photos(PreparedData(data.folder, data.photo_root, data.classes, data.annotations, changed))
    assert len(files(data)) == 4
    photos(data, augment=AugmentConfig(crop_ratio=(1.2, 1.8), hue=0.0))  # the pixels do not depend on it
    assert len(files(data)) == 4


def test_a_build_that_stops_half_way_leaves_nothing_that_is_used(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_photo, calls = cache_module.fit_photo, []

    def stop(*arguments: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return fit_photo(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "fit_photo", stop)
    with pytest.raises(KeyboardInterrupt):
        photos(data)
    assert files(data) == []


def test_what_a_killed_build_left_is_removed(data: PreparedData) -> None:
    killed = killed_while_making(data.folder / CACHE / "photos-1.bin")
    photos(data)
    assert not killed.exists()


def test_too_little_room_is_told_before_anything_is_written(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"found 0\.00 GB.*without --cache"):
        photos(data)
    assert files(data) == []


def test_a_photo_that_is_gone_is_told_in_one_sentence(data: PreparedData, tmp_path: Path) -> None:
    lost = PreparedData(data.folder, tmp_path / "nowhere", data.classes, data.annotations, data.manifest)
    with pytest.raises(PhotoError, match=r"no such file or folder\.$"):
        photos(lost)
    assert files(data) == []


def test_crops_that_one_picture_cannot_serve_are_refused(data: PreparedData) -> None:
    with pytest.raises(UsageError, match="crop_scale"):
        photos(data, augment=AugmentConfig(crop_scale=(0.08, 1.0)))


def test_a_spawned_worker_maps_the_file_anew(data: PreparedData) -> None:
    original = photos(data)
    expected = original[0, 0, 0][0]
    sent = pickle.dumps(original.cache)
    assert len(sent) < 10_000
    original.cache = pickle.loads(sent)
    np.testing.assert_array_equal(original[0, 0, 0][0], expected)
