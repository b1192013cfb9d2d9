"""The model file: weights, with a header that holds everything needed to use them.

It is a `.safetensors` file. Its metadata has, as JSON under `twincar`: format, architecture, preprocessing, classes
with their taxonomy, and provenance (recipe, data, epoch, scores, versions). Normalisation is part of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from twincar.core.errors import CheckpointError, UsageError
from twincar.core.files import write_bytes
from twincar.core.labels import ClassNames
from twincar.core.options import Head
from twincar.core.preprocess import Preprocessing
from twincar.models.network import CarNet, classifies_as_timm, load_pretrained, rename_timm_weights
from twincar.models.spec import HEADER_KEY, ModelSpec
from twincar.models.weights import fit_weights, read_state_dict


def build_network(spec: ModelSpec, *, dropout: float = 0.0, drop_path: float = 0.0) -> CarNet:
    """Build a network of this architecture with random weights; the dropouts matter for training only."""
    return CarNet(spec.backbone, len(spec.classes), head=spec.head, dropout=dropout, drop_path=drop_path)


def load_initial(network: CarNet, spec: ModelSpec, source: str) -> None:
    """Load the weights with which training begins.

    From a TwinCar model of the same classes also the head is taken, so that its training is continued; else the head
    keeps its random weights.

    Args:
        network: changed in place.
        spec: of the network.
        source: 'hub', 'none', or the path of a weights file: of this backbone alone, or of a TwinCar model with it.

    Raises:
        UsageError: there is no such file.
        PretrainedWeightsError: the hub cannot be reached, or has no weights for this backbone.
        CheckpointError: the file is damaged, not safe to open, or of another architecture.
    """
    if source in ("hub", "none"):
        return load_pretrained(network, source, spec.backbone)
    state, metadata = read_state_dict(Path(source))
    if HEADER_KEY not in metadata:
        return load_pretrained(network, source, spec.backbone)
    before = ModelSpec.from_header(metadata[HEADER_KEY], source)
    if (before.backbone, before.head, before.classes.names) == (spec.backbone, spec.head, spec.classes.names):
        fit_weights(network, state, what=f"{spec.backbone} with {len(spec.classes)} classes", source=source)
        return None
    backbone = {
        name.removeprefix("backbone."): tensor for name, tensor in state.items() if name.startswith("backbone.")
    }
    return fit_weights(network.backbone, backbone, what=f"the backbone {spec.backbone}", source=source)


def save_model(path: Path, network: CarNet, spec: ModelSpec) -> None:
    """Write the model file atomically.

    Raises:
        StorageError: it cannot be written; what was at `path` is unchanged.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, save(tensors, metadata={HEADER_KEY: spec.to_header()}))


def load_model(path: Path) -> tuple[CarNet, ModelSpec]:
    """Read a model file; the network is in evaluation mode, on the CPU.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is damaged, not made by TwinCar, of a later format, or its weights do not fit its header.
    """
    state, metadata = read_state_dict(path)
    if HEADER_KEY not in metadata:
        raise CheckpointError(
            f"Expected a TwinCar model in {path}, but it has no TwinCar header. Use best.safetensors of a run; "
            "third-party weights in a .pth file load with their class names and backbone."
        )
    spec = ModelSpec.from_header(metadata[HEADER_KEY], str(path))
    return _with_weights(build_network(spec), spec, state, path), spec


def load_published_model(path: Path, classes: ClassNames, backbone: str) -> tuple[CarNet, ModelSpec]:
    """Read the plain `state_dict` of a timm model, such as the published `efficientnetv2_best_model.pth`.

    Its head may be timm's own linear layer or Linear-ReLU-Dropout-Linear. Photos are resized to 256 pixels and cropped
    to 224, as in the training of that model.

    Raises:
        UsageError: there is no such file, or `backbone` is not a timm network with a feature map from whose pooling its
            classifier follows.
        CheckpointError: it is damaged, not safe to open, or does not fit `backbone` and `classes`.
    """
    state, _ = read_state_dict(path)
    head: Head = "mlp" if "classifier.3.weight" in state else "linear"
    preprocessing = Preprocessing(height=224, width=224)
    spec = ModelSpec(backbone=backbone, head=head, classes=classes, preprocessing=preprocessing)
    network = build_network(spec)
    if not classifies_as_timm(network):
        raise UsageError(
            f"Expected weights of a network whose pooled features go straight to its classifier, as in EfficientNet, "
            f"ResNet and RegNet, but timm's {backbone} computes more in between, which TwinCar places before the "
            "pooling. Train it with --backbone, from these weights by --pretrained."
        )
    normalisation = {"mean": network.mean, "std": network.std}
    return _with_weights(network, spec, rename_timm_weights(state, network) | normalisation, path), spec


def _with_weights(network: CarNet, spec: ModelSpec, state: Mapping[str, Any], path: Path) -> CarNet:
    fit_weights(network, state, what=f"{spec.backbone} with {len(spec.classes)} classes", source=str(path))
    return network.eval()
