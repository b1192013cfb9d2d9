"""The network: an EfficientNetV2 of timm's, a small classifier, and normalisation as part of both.

Shapes: N photos of H×W pixels, C channels of an h×w feature map, K classes.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from twincar.core.errors import PretrainedWeightsError, UsageError
from twincar.core.options import Head
from twincar.models.weights import fit_weights, read_state_dict

log = logging.getLogger(__name__)

_HIDDEN = 512  # units of the published classifier


class CarNet(nn.Module):
    """Photos in, one logit a class out.

    Takes RGB values from 0 to 255 (uint8 or float), N×3×H×W, and gives logits, N×K. The mean and standard deviation the
    backbone was trained with are buffers, so they travel with the weights.

    Raises:
        UsageError: `backbone` is not the name of an EfficientNetV2.
    """

    backbone: Any  # timm's models have attributes that nn.Module does not declare
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, num_classes: int, *, head: Head = "mlp", dropout: float = 0.2, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        _check_backbone(backbone)
        self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0, drop_path_rate=drop_path)
        self.head = _make_head(head, self.backbone.num_features, num_classes, dropout)
        for name in ("mean", "std"):
            values = torch.tensor(self.backbone.pretrained_cfg[name]) * 255
            self.register_buffer(name, values.view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """The feature map before pooling, N×C×h×w: what Grad-CAM++ explains."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone.forward_features(normalised)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits, N×K, of a feature map, N×C×h×w."""
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N×K, of photos, N×3×H×W."""
        return self.classify(self.features(images))


def load_pretrained(network: CarNet, source: str, backbone: str) -> None:
    """Give the backbone its first weights; the classifier keeps its random ones.

    Args:
        network: changed in place.
        source: 'hub', 'none', or the path of a weights file of this backbone, with or without its old classifier.
        backbone: its timm name.

    Raises:
        PretrainedWeightsError: the hub cannot be reached, or has no weights for this backbone.
        CheckpointError: the file is damaged, unsafe, or of another architecture.
    """
    if source == "none":
        return
    if source == "hub":
        state: Mapping[str, Tensor] = _fetch_pretrained(backbone)
    else:
        weights, _ = read_state_dict(Path(source))
        state = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
    fit_weights(network.backbone, state, what=f"the backbone {backbone}", source=source)


def rename_timm_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a plain timm model, named as in `CarNet`: its `classifier` is our `head`."""
    return {
        name.replace("classifier", "head", 1) if name.startswith("classifier") else f"backbone.{name}": tensor
        for name, tensor in state.items()
    }


def timm_weights(network: CarNet) -> dict[str, Tensor]:
    """The weights of a network whose head is linear, named as a plain timm model names them."""
    classifier = {f"classifier.{name}": tensor for name, tensor in network.head.state_dict().items()}
    return {**network.backbone.state_dict(), **classifier}


def weight_groups(
    network: CarNet, *, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups for the optimiser; norms and biases are not decayed.

    The classifier and the backbone's last stage learn at `learning_rate`, each stage before at `layer_decay` times the
    rate of the one after it (Clark et al., 2020, ELECTRA; per stage, as timm groups them).
    """
    names = [name for name, _ in network.backbone.named_parameters()]
    stages = group_parameters(network.backbone, network.backbone.group_matcher(coarse=True), reverse=True)
    last = max(stages[name] for name in names)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        depth = last - stages.get(name.removeprefix("backbone."), last)  # 0 for the classifier
        decayed = parameter.ndim > 1
        rate, decay = learning_rate * layer_decay**depth, weight_decay if decayed else 0.0
        key = (depth if layer_decay < 1 else 0, decayed)
        groups.setdefault(key, {"params": [], "lr": rate, "weight_decay": decay})["params"].append(parameter)
    return list(groups.values())


def _make_head(head: Head, features: int, num_classes: int, dropout: float) -> nn.Module:
    if head == "linear":
        return nn.Linear(features, num_classes)
    return nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(_HIDDEN, num_classes))


def _check_backbone(name: str) -> None:
    known = timm.list_models("*efficientnetv2*")
    # A name may have a tag behind a full stop; one with a colon would be fetched from elsewhere.
    if name.split(".")[0] in known and (name in known or name in timm.list_pretrained("*efficientnetv2*")):
        return
    near = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.3) or known
    raise UsageError(f"Expected the name of a timm EfficientNetV2, but found {name!r}; near are {', '.join(near)}.")


def _fetch_pretrained(backbone: str) -> dict[str, Tensor]:
    log.info("Fetching the pretrained weights of %s; without network it takes a minute until that is sure.", backbone)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are told in one sentence, below
    try:
        model = timm.create_model(backbone, pretrained=True, num_classes=0)
    except Exception as error:  # timm and the hub's client raise a dozen kinds for 'cannot be had'
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PretrainedWeightsError(
            f"The pretrained weights of {backbone} are not on this machine and could not be fetched ({reason}). Three "
            "ways out: go online (or name a mirror in HF_ENDPOINT) and try again; give a local weights file with "
            "--pretrained FILE; or start from random weights with --pretrained none, which needs many more epochs."
        ) from error
    state: dict[str, Tensor] = model.state_dict()
    return state
