"""Knowledge distillation: the network learns to match the averaged predictions of other models.

Hinton et al., 2015, https://arxiv.org/abs/1503.02531. Teachers see the same photos as the student, augmented and mixed
alike, in every step (Beyer et al., 2022, https://arxiv.org/abs/2106.05237, section 3: consistent and patient teaching).

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from twincar.core.errors import UsageError
from twincar.core.files import sha256_of_file
from twincar.core.labels import ClassNames, shorten
from twincar.core.runs import RunFolder
from twincar.models.bundled import BUNDLED, MODEL
from twincar.models.engines.base import Engine
from twincar.models.engines.open import open_engine
from twincar.models.engines.torch_engine import TorchEngine
from twincar.models.locate import find_model
from twincar.models.spec import HEADER_KEY, ModelSpec
from twincar.models.weights import read_state_dict


class Teachers:
    """Models of any kind, for the classes of the student.

    Raises:
        UsageError: there is no such model, or it does not know all of the student's classes.
        CheckpointError: a model is damaged.
    """

    def __init__(self, models: Sequence[str], classes: ClassNames) -> None:
        self._teachers = [_Teacher(*open_engine(_path(model)), classes, model) for model in models]

    @torch.no_grad()
    def probabilities(self, images: Tensor, temperature: float) -> Tensor:
        """The mean of the teachers' softened probabilities, N×K, of photos, N×3×H×W, values from 0 to 255."""
        each = [(teacher.logits(images) / temperature).softmax(1) for teacher in self._teachers]
        return torch.stack(each).mean(0)


class _Teacher:
    def __init__(self, engine: Engine, spec: ModelSpec, classes: ClassNames, name: str) -> None:
        self.engine = engine
        self.size = (spec.preprocessing.height, spec.preprocessing.width)
        index = {known: number for number, known in enumerate(spec.classes.names)}
        if missing := [own for own in classes.names if own not in index]:
            raise UsageError(
                f"Expected a teacher that knows all {len(classes)} classes of the data set, but {name} does not know "
                f"{len(missing)} of them ({shorten(missing)}). Train a teacher on these classes, or leave it out."
            )
        self.order = torch.tensor([index[own] for own in classes.names])

    def logits(self, images: Tensor) -> Tensor:
        """Logits, N×K, in the order of the student's classes."""
        if images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        if isinstance(self.engine, TorchEngine):
            logits: Tensor = self.engine.network(images.to(self.engine.device)).float()
        else:
            photos = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
            logits = torch.from_numpy(self.engine.logits(photos.contiguous().cpu().numpy()))
        return logits.to(images.device)[:, self.order.to(images.device)]


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the teachers' probabilities, N×K, and the student's softened ones, times T squared.

    The factor keeps the size of its gradients independent of the temperature (Hinton et al., section 2.1).
    """
    return -(teacher * F.log_softmax(logits / temperature, 1)).sum(1).mean() * temperature**2


def teacher_hashes(models: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each teacher's file by the name of that file, for the header of the student."""
    files = [_path(model) for model in models]
    files = [RunFolder(path).best if path.is_dir() else path for path in files]
    return {path.name: sha256_of_file(path) for path in files}


def check_same_teachers(run: RunFolder, models: Sequence[str]) -> None:
    """Check, for a run that is resumed, that its teachers are still the models with which it was started.

    Raises:
        UsageError: the file of one has changed.
    """
    if not models or not run.best.exists():
        return
    _, metadata = read_state_dict(run.best)
    before = ModelSpec.from_header(metadata[HEADER_KEY], str(run.best)).provenance["teachers"]
    for name, digest in teacher_hashes(models).items():
        if before.get(name) != digest:
            raise UsageError(
                f"Expected the teachers with which {run.path} was started, but {name} has changed. Put it back, or "
                "start a new run."
            )


def _path(model: str) -> Path:
    return MODEL if model == BUNDLED else find_model(model)
