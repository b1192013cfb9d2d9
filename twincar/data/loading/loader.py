"""Data loaders: from a prepared data set to batches of photos.

Every random choice (the order of the photos, their augmentation) depends only on the seed, the epoch and the index in
the epoch. So a run that resumes at the start of an epoch continues exactly as if it had not stopped, with any number of
workers.

Shapes: N photos of H×W pixels. Batches are uint8, N×3×H×W (channels last in memory, as the network computes), with
int64 labels, N.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, WeightedRandomSampler

from twincar.core.augmentation import AugmentConfig
from twincar.core.errors import PhotoError
from twincar.core.machine import available_cores, tune_glibc_malloc
from twincar.core.photos import read_photo
from twincar.core.preprocess import Preprocessing
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.loading.augment import Fit, augment_fitted, augment_photo, sample_params
from twincar.data.loading.cache import open_cache
from twincar.data.loading.shard import Shard
from twincar.data.loading.surroundings import Pixels
from twincar.data.loading.view import view_of

Key = tuple[int, int, int]
"""Key of a training sample: index of the photo, epoch, index in the epoch."""
Sample = tuple[Pixels, int]
"""The photo, H×W×3, and its label."""


class TrainingPhotos(Dataset[Sample]):
    """The training photos of a data set with random augmentation, indexed by the keys of `EpochSampler`.

    With `cache` all photos are decoded once, into a file below the data, when the data set is created.

    Raises:
        UsageError, PhotoError, StorageError: the cache cannot be built; see `open_cache`.
    """

    def __init__(
        self,
        data: PreparedData,
        augment: AugmentConfig,
        preprocessing: Preprocessing,
        seed: int,
        *,
        cache: bool = False,
    ) -> None:
        annotations = data.split("train")
        self.paths = [data.path(annotation) for annotation in annotations]
        self.views = [view_of(annotation, augment) for annotation in annotations]
        self.labels = labels_of(annotations)
        self.augment = augment
        self.preprocessing = preprocessing
        self.seed = seed
        self.cache = open_cache(data, annotations, augment, preprocessing, self._decode_for) if cache else None

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, key: Key) -> Sample:
        index, epoch, position = key
        view, label = self.views[index], int(self.labels[index])
        full, height, width = view.size, self.preprocessing.height, self.preprocessing.width
        params = sample_params(self.augment, np.random.default_rng((self.seed, epoch, position)), *full, view.box)
        if self.cache:
            return augment_fitted(params, self.cache[index], full=full, height=height, width=width), label
        photo = view.decode(self.paths[index], min(params.height / height, params.width / width))
        return augment_photo(params, photo, full=full, height=height, width=width), label

    def _decode_for(self, index: int, fit: Fit) -> Pixels:
        width, height = self.views[index].size
        return self.views[index].decode(self.paths[index], min(height / fit.height, width / fit.width))


class EvaluationPhotos(Dataset[Sample]):
    """Labelled photos without augmentation, preprocessed as in evaluation and prediction."""

    def __init__(self, data: PreparedData, annotations: Sequence[Annotation], preprocessing: Preprocessing) -> None:
        self.photos = [data.photo(annotation) for annotation in annotations]
        self.labels = labels_of(annotations)
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Sample:
        return self.preprocessing(read_photo(self.photos[index])), int(self.labels[index])


class EpochSampler(Sampler[Key]):
    """Keys of one epoch, in an order that depends on the seed and the epoch only.

    `balanced` samples with replacement so that every class is equally frequent on average (WeightedRandomSampler with
    the counts of the labels; no photo is opened); otherwise every photo comes once. With `repeats` an epoch has that
    many passes.

    Several processes iterate over the same batches, and each takes its shard.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        *,
        batch_size: int,
        balanced: bool,
        seed: int,
        repeats: int = 1,
        shard: Shard = Shard(),
    ) -> None:
        self.labels = labels
        self.total = repeats * len(labels)
        self.repeats = repeats
        self.batch_size = batch_size
        self.balanced = balanced
        self.seed = seed
        self.shard = shard
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._positions())

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(int(np.random.default_rng((self.seed, self.epoch)).integers(2**62)))
        order = self._order(generator)
        for position in self._positions():
            yield order[position], self.epoch, position

    def _positions(self) -> list[int]:
        return self.shard.positions(self.total, self.batch_size)

    def _order(self, generator: torch.Generator) -> Sequence[int]:
        if not self.balanced:
            passes = [torch.randperm(len(self.labels), generator=generator) for _ in range(self.repeats)]
            return torch.cat(passes).tolist()
        weights = 1.0 / np.bincount(self.labels)[self.labels]
        return list(WeightedRandomSampler(weights.tolist(), self.total, generator=generator))


class PhotoLoader(DataLoader[Any]):
    """A DataLoader that raises a photo's own error, instead of one wrapped in a worker's traceback."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, PhotoError):
                raise batch
            yield batch


def training_loader(
    photos: TrainingPhotos,
    *,
    batch_size: int,
    balanced: bool,
    workers: int,
    repeats: int = 1,
    shard: Shard = Shard(),
) -> PhotoLoader:
    """Batches of the training photos, or this process's shard of them; the last one may be short.

    `batch_size` counts all processes together; for `balanced`, `repeats` and `shard` see `EpochSampler`.
    """
    sampler = EpochSampler(
        photos.labels, batch_size=batch_size, balanced=balanced, seed=photos.seed, repeats=repeats, shard=shard
    )
    return _loader(photos, batch_size // shard.count, workers, sampler)


def evaluation_loader(
    data: PreparedData,
    split: str,
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int,
    shard: Shard = Shard(),
) -> PhotoLoader:
    """Batches of a split's photos in the order of the annotations; each of n processes takes every n-th photo."""
    annotations = data.split(split)[shard.rank :: shard.count]
    return _loader(EvaluationPhotos(data, annotations, preprocessing), batch_size, workers, None)


def labels_of(annotations: Sequence[Annotation]) -> NDArray[np.int64]:
    """The labels of photos, N.

    Raises:
        ValueError: a photo has no label.
    """
    labels = [annotation.label for annotation in annotations]
    if any(label is None for label in labels):
        raise ValueError("every photo must have a label")
    return np.array(labels, np.int64)


def default_workers() -> int:
    """Number of loader processes: half the cores, because the network may need the others, and at most eight."""
    return max(1, min(8, available_cores() // 2))


def _loader(
    photos: TrainingPhotos | EvaluationPhotos, batch_size: int, workers: int, sampler: EpochSampler | None
) -> PhotoLoader:
    return PhotoLoader(
        _Batches(photos),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
    )


def _start_worker(number: int) -> None:  # noqa: ARG001  # torch passes the worker's number
    tune_glibc_malloc()
    cv2.setNumThreads(0)  # the workers run in parallel already; OpenCV's own threads would only slow them down


class _Batches(Dataset[Any]):
    """Writes each photo into its batch at once: collating single photos later would allocate and copy each of them.

    The error of a photo is returned as a value: raised in a worker, it would reach the user as a traceback.
    """

    def __init__(self, photos: TrainingPhotos | EvaluationPhotos) -> None:
        self.photos = photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitems__(self, keys: Sequence[Any]) -> tuple[Tensor, Tensor] | PhotoError:
        size = self.photos.preprocessing
        images = np.empty((len(keys), size.height, size.width, 3), np.uint8)
        labels = np.empty(len(keys), np.int64)
        try:
            for position, key in enumerate(keys):
                images[position], labels[position] = self.photos[key]
        except PhotoError as error:
            return error
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)


def _unchanged(batch: object) -> object:
    return batch
