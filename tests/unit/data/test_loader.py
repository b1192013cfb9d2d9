from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import draw_car, encoded
from PIL import Image

from twincar.core.augmentation import AugmentConfig
from twincar.core.errors import PhotoError
from twincar.core.photos import decode_photo, read_photo
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import PreparedData
from twincar.data.loading.decode import decode_reduced
from twincar.data.loading.loader import (
    EpochSampler,
    PhotoLoader,
    TrainingPhotos,
    evaluation_loader,
    training_loader,
)

SMALL = Preprocessing(height=32, width=48)


def loader(data: PreparedData, *, workers: int = 0, seed: int = 0) -> PhotoLoader:
    photos = TrainingPhotos(data, AugmentConfig(), SMALL, seed)
    return training_loader(photos, batch_size=8, balanced=True, workers=workers)


def epoch_of(photo_loader: PhotoLoader, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    photo_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    images, labels = zip(*photo_loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_batches_have_the_shape_and_kind_the_network_takes(small_data: Path) -> None:
    images, labels = next(iter(loader(PreparedData.open(small_data))))
    assert (images.shape, images.dtype) == ((8, 3, 32, 48), torch.uint8)
    assert images.is_contiguous(memory_format=torch.channels_last)  # so the network need not copy them
    assert (labels.shape, labels.dtype) == ((8,), torch.int64)


def test_spawned_workers_get_all_they_need(small_data: Path) -> None:
    """macOS and Windows start them by spawn: what they are given goes through pickle."""
    original = loader(PreparedData.open(small_data), workers=1)
    parts = (original.dataset, original.collate_fn, original.worker_init_fn)
    dataset, collate, start = pickle.loads(pickle.dumps(parts))
    assert (collate, start) == parts[1:]
    keys = list(original.sampler)[:2]
    for sent, kept in zip(dataset.__getitems__(keys), original.dataset.__getitems__(keys), strict=True):
        assert torch.equal(sent, kept)


def test_a_worker_leaves_the_other_cores_to_the_others(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(_: TrainingPhotos, __: object) -> tuple[np.ndarray, int]:
        return np.full((32, 48, 3), cv2.getNumThreads(), np.uint8), 0

    monkeypatch.setattr(TrainingPhotos, "__getitem__", threads)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        images, _ = next(iter(loader(PreparedData.open(small_data), workers=1)))
        assert (images.max(), cv2.getNumThreads()) == (1, 2)
    finally:
        cv2.setNumThreads(before)


def test_an_epoch_depends_on_seed_and_epoch_only(small_data: Path) -> None:
    data = PreparedData.open(small_data)
    first = epoch_of(loader(data), 3)
    with_workers = epoch_of(loader(data, workers=2), 3)
    assert torch.equal(first[0], with_workers[0])
    assert torch.equal(first[1], with_workers[1])
    again = loader(data)
    epoch_of(again, 0)  # what came before does not matter
    assert torch.equal(first[0], epoch_of(again, 3)[0])
    assert not torch.equal(first[0], epoch_of(loader(data), 4)[0])
    assert not torch.equal(first[0], epoch_of(loader(data, seed=1), 3)[0])


def test_balanced_sampling_makes_rare_classes_as_frequent() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    sampler = EpochSampler(labels, batch_size=8, balanced=True, seed=0)
    drawn = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        drawn += [labels[index] for index, *_ in sampler]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_unbalanced_sampling_takes_every_photo_once() -> None:
    sampler = EpochSampler(np.zeros(50, np.int64), batch_size=8, balanced=False, seed=0)
    assert sorted(index for index, *_ in sampler) == list(range(50))
    assert [place for *_, place in sampler] == list(range(50))


def test_an_epoch_of_several_passes() -> None:
    sampler = EpochSampler(np.zeros(5, np.int64), batch_size=8, balanced=False, seed=0, repeats=3)
    keys = list(sampler)
    assert len(sampler) == len(keys) == 15
    assert [place for *_, place in keys] == list(range(15))  # so each time is varied anew
    for start in (0, 5, 10):
        assert sorted(index for index, *_ in keys[start : start + 5]) == list(range(5))
    labels = np.repeat([0, 1], [90, 10])
    balanced = EpochSampler(labels, batch_size=8, balanced=True, seed=0, repeats=20)
    drawn = [labels[index] for index, *_ in balanced]
    assert np.bincount(drawn) / 2000 == pytest.approx([0.5, 0.5], abs=0.04)


def test_validation_sees_photos_as_prediction_does(small_data: Path) -> None:
    data = PreparedData.open(small_data)
    images, _ = next(iter(evaluation_loader(data, "val", preprocessing=SMALL, batch_size=4, workers=0)))
    expected = SMALL(read_photo(data.path(data.split("val")[0])))
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_disappears_is_told_in_one_sentence(small_data: Path, tmp_path: Path, workers: int) -> None:
    data = PreparedData.open(small_data)
    lost = PreparedData(data.folder, tmp_path, data.classes, data.annotations, data.manifest)
    with pytest.raises(PhotoError, match=r"no such file or folder\.$"):
        next(iter(loader(lost, workers=workers)))


def jpeg(image: Image.Image, **options: object) -> bytes:
    return encoded(image, quality=95, **options)


def test_reduced_decoding_never_goes_below_what_is_needed() -> None:
    data = jpeg(draw_car(0, 0, (640, 400)))
    for shrink, expected in [(1.0, 640), (1.9, 400), (2.0, 320), (3.9, 240), (4.0, 160), (100.0, 80)]:
        width = decode_reduced(data, "x", shrink).shape[1]
        assert width >= 640 / shrink - 1
        assert width <= expected


@pytest.mark.parametrize("kind", ["plain", "turned", "cmyk", "gray", "png"])
def test_every_kind_of_photo_is_decoded_as_in_evaluation(kind: str) -> None:
    image = draw_car(1, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = {
        "plain": lambda: jpeg(image),
        "turned": lambda: jpeg(image, exif=exif),
        "cmyk": lambda: jpeg(image.convert("CMYK")),
        "gray": lambda: jpeg(image.convert("L")),
        "png": lambda: encoded(image, "PNG"),
    }[kind]()
    ours, expected = decode_reduced(data, "x", 1.0), np.asarray(decode_photo(data))
    assert ours.shape == expected.shape
    assert abs(ours.astype(int) - expected).mean() < 2


def test_a_photo_is_varied_anew_each_time(small_data: Path) -> None:
    data = PreparedData.open(small_data)
    photos = TrainingPhotos(data, AugmentConfig(), SMALL, seed=0)
    image = photos[0, 0, 0][0]
    np.testing.assert_array_equal(image, photos[0, 0, 0][0])
    for key in [(0, 1, 0), (0, 0, 1)]:  # another epoch, another place
        assert not np.array_equal(image, photos[key][0])
