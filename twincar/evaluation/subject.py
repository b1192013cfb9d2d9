"""The subject of an evaluation: a model of any kind and a data set, each opened lazily and only once.

A training run knows its data, configuration and history. For the bundled model, an exported one, one on the hub and
third-party weights, the caller names the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twincar.core.config import TrainConfig
from twincar.core.errors import DataError, UsageError
from twincar.core.files import is_free, read_json, sha256_of_file, write_json
from twincar.core.labels import slug
from twincar.core.options import DetectOptions
from twincar.core.photos import Photo
from twincar.core.progress import Progress
from twincar.core.runs import Epoch, RunFolder
from twincar.data.dataset import ANNOTATIONS, Annotation, PreparedData, spread
from twincar.data.unprepared import UNNAMED_SPLIT, is_prepared, open_unprepared
from twincar.inference.crops import CarFinder, compute_crop_logits
from twincar.models.bundled import MODEL
from twincar.models.engines.base import OPENVINO_MODEL, Engine
from twincar.models.engines.open import compute_logits, open_engine
from twincar.models.locate import find_model
from twincar.models.spec import ModelSpec

RESULTS = Path("results")
"""Default folder of the results of models that are not runs, in the working folder."""
SUBJECT = "subject.json"
"""The file in such a folder that records the model and the data."""
_HASH_LENGTH = 8  # characters of a hash in the name of a folder


@dataclass(frozen=True)
class Subject:
    """A model and the data set that it is evaluated on."""

    model: str | Path | None = None
    """A run folder, a model file, an OpenVINO folder, owner/name on the hub, or a folder of results; None is the
    bundled model."""
    data_folder: Path | None = None
    """A prepared data set, class folders, or a CSV file; None is the data that a run was trained on."""
    requested_split: str | None = None
    out: Path | None = None
    """Folder of the results, instead of the default."""
    detection: DetectOptions = DetectOptions()
    """Whether the cars in the photos are found and cut out first."""

    @classmethod
    def open(
        cls,
        model: str | Path | None = None,
        *,
        data_folder: str | Path | None = None,
        split: str | None = None,
        out: str | Path | None = None,
        detection: DetectOptions = DetectOptions(),
    ) -> Subject:
        """A subject; a folder of results stands for the model and the data that are recorded in it.

        Raises:
            DataError: the record in the folder of results is damaged.
        """
        data_folder, out = (Path(path) if path else None for path in (data_folder, out))
        if model is not None and (Path(model) / SUBJECT).is_file():
            record = _read_record(Path(model) / SUBJECT)
            data_folder = data_folder or (Path(record["data"]) if record["data"] else None)
            return cls(record["model"], data_folder, split, out or Path(model), detection)
        return cls(model, data_folder, split, out, detection)

    @cached_property
    def path(self) -> Path:
        """The file or folder of the model, downloaded if it is on the hub.

        Raises:
            UsageError: there is nothing at this path, or a folder that is not a model.
            HubError: the download failed.
        """
        path = MODEL if self.model is None else find_model(self.model)
        if not path.exists():
            raise UsageError(
                f"Expected a model at {path} (a run folder, a model file, or owner/name on the hub), but there is none."
            )
        if path.is_dir() and not (path / OPENVINO_MODEL).is_file():
            RunFolder.open(path)
        return path

    @cached_property
    def run(self) -> RunFolder | None:
        """The training run; None for any other kind of model."""
        run = RunFolder(self.path)
        return run if run.config.is_file() else None

    @property
    def name(self) -> str:
        """The name of the model in messages and in names of folders."""
        if isinstance(self.model, str) and not Path(self.model).exists():
            return self.model.removeprefix("hub:")
        return self.path.resolve().name if self.path.is_dir() else self.path.stem

    @cached_property
    def _opened(self) -> tuple[Engine, ModelSpec]:
        return open_engine(self.path)

    @property
    def engine(self) -> Engine:
        """The engine that runs the model."""
        return self._opened[0]

    @cached_property
    def spec(self) -> ModelSpec:
        """The header of the model."""
        return self._opened[1]

    def finder(self, data: PreparedData | None = None) -> CarFinder | None:
        """Cuts the main car out of photos; None if the model gets them whole, or if those of this data are cut already.

        Raises:
            UsageError: there is no such detector file.
            CheckpointError: it is not a detector.
        """
        if self.detection.detect == "auto" and data is not None and data.framing == "car":
            return None
        return CarFinder.for_model(self.spec, self.detection)

    def compute_logits(
        self, photos: Sequence[Photo], *, tta: bool = False, on_photo: Progress | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Logits, N×V×K, of photos of the data; and whether a car was found in each, N, if that was tried.

        Raises:
            PhotoError: one of them cannot be read.
        """
        engine, preprocessing, finder = self.engine, self.spec.preprocessing, self.finder(self.data)
        if finder is None:
            return compute_logits(engine, preprocessing, photos, tta=tta, on_photo=on_photo), None
        return compute_crop_logits(engine, preprocessing, finder, photos, tta=tta, on_photo=on_photo)

    @cached_property
    def config(self) -> TrainConfig | None:
        """The training configuration of a run; None for any other kind of model."""
        return self.run.read_config() if self.run else None

    @cached_property
    def history(self) -> list[Epoch]:
        """The epochs of a run; empty for any other kind of model."""
        return self.run.read_history() if self.run else []

    @cached_property
    def data(self) -> PreparedData:
        """The data set.

        Raises:
            UsageError: no data is named for a model that is not a run, or the folder is not a data set.
            DataError: the data set is damaged, or has no valid photo.
        """
        if self.data_folder is None:
            if self.config is None:
                raise UsageError(
                    f"Expected --data DATA, the photos to evaluate {self.name} on, but it is missing: only a training "
                    "run knows its data. Name a prepared data set, a folder of class folders, or a CSV file."
                )
            return PreparedData.open(Path(self.config.data))
        folder = Path(self.data_folder)
        return PreparedData.open(folder) if is_prepared(folder) else open_unprepared(folder, self._split_of_unprepared)

    @property
    def data_path(self) -> Path | None:
        """The path of the data set, as far as it is known without opening it."""
        return self.data_folder or (Path(self.config.data) if self.config else None)

    @property
    def _split_of_unprepared(self) -> str:
        return self.requested_split or UNNAMED_SPLIT

    @property
    def split(self) -> str:
        """The requested split; by default 'val', or 'test' if there are no validation photos."""
        return self.requested_split or ("val" if self.data.has_split("val") else UNNAMED_SPLIT)

    def sample(self, count: int) -> list[Annotation]:
        """At most `count` photos of the split, spread evenly over it.

        Raises:
            UsageError: `count` is below 1, or as for `data`.
            DataError: the split has no photos, or as for `data`.
        """
        if count < 1:
            raise UsageError(f"Expected --count to be at least 1, but found {count}.")
        return spread(self.data.split(self.split), count)

    @property
    def is_own_data(self) -> bool:
        """Whether the model was trained on this data set."""
        return is_own_data(self.spec, self.data)

    @property
    def left_out(self) -> dict[str, int]:
        """Number of photos of an unprepared data set that could not be used, by reason."""
        prepared = self.data_folder is None or is_prepared(Path(self.data_folder))
        return {} if prepared else dict(self.data.manifest["left_out"])

    @property
    def own_reports(self) -> Path:
        """The folder of results that need no data set."""
        return self.out or (self.run.reports if self.run else RESULTS / self._label)

    @property
    def reports(self) -> Path:
        """The folder of results on the data set: one for each pair of model and data set.

        For a run on the data that it was trained on this is its `reports`, for other data a folder in its
        `evaluations`.
        """
        if self.out:
            return self.out
        data = f"{self.data.name}-{self._data_hash[:_HASH_LENGTH]}"
        if self.run:
            return self.run.reports if self.is_own_data else self.run.evaluations / data
        return RESULTS / f"{self._label}-on-{data}"

    @property
    def results(self) -> Path:
        """The folder of results on the split."""
        return self.reports / self.split

    def claim(self, folder: Path) -> Path:
        """Return a folder in `reports` or `own_reports` for writing, after checking that nothing else uses it.

        Raises:
            UsageError: the folder holds results of another model or of other data, or other files.
            DataError: the record in the folder is damaged.
        """
        if self.run is None or self.out:
            _claim(self.out or RESULTS / folder.relative_to(RESULTS).parts[0], self._record())
        return folder

    @cached_property
    def weights(self) -> Path:
        """The file of the weights."""
        if self.run:
            return self.run.best
        return self.path / "model.bin" if self.path.is_dir() else self.path

    def _record(self) -> dict[str, str | None]:
        model = self.model
        if model is not None and Path(model).exists():
            model = Path(model).resolve()
        return {
            "model": None if model is None else str(model),
            "sha256": self._model_hash,
            "data": str(self.data_path.resolve()) if self.data_path else None,
        }

    @property
    def _label(self) -> str:
        return f"{slug(self.name)}-{self._model_hash[:_HASH_LENGTH]}"

    @cached_property
    def _model_hash(self) -> str:
        return sha256_of_file(self.weights)

    @property
    def _data_hash(self) -> str:
        return str(self.data.manifest["sha256"][ANNOTATIONS])


def is_own_data(spec: ModelSpec, data: PreparedData) -> bool:
    """Whether a model was trained on this data set: the hash of its annotations is the same, in any folder."""
    recorded = spec.provenance.get("data")
    hashes = recorded.get("sha256") if isinstance(recorded, dict) else None
    return isinstance(hashes, dict) and hashes.get(ANNOTATIONS) == data.manifest["sha256"][ANNOTATIONS]


def _claim(folder: Path, record: dict[str, str | None]) -> None:
    path = folder / SUBJECT
    if path.is_file():
        before = _read_record(path)
        other_data = before["data"] and record["data"] and before["data"] != record["data"]
        if before["sha256"] != record["sha256"] or other_data:
            raise UsageError(
                f"Results are never overwritten by those of another model or data set, but {folder} holds results of "
                f"{before['model'] or MODEL.name} on {before['data'] or 'photos'}. Choose another --out, or delete it."
            )
        if before["data"] or not record["data"]:
            return
    elif not is_free(folder):
        raise UsageError(f"Expected a new folder for results, but {folder} holds other files. Choose another --out.")
    write_json(path, record)


def _read_record(path: Path) -> dict[str, str | None]:
    try:
        found = read_json(path)
        record = {name: found[name] for name in ("model", "sha256", "data")}
    except (LookupError, TypeError):
        record = {"": 0}
    if not all(value is None or isinstance(value, str) for value in record.values()):
        raise DataError(f"Expected the model and the data of the results in {path}, but it is damaged. Delete it.")
    return record
