"""The configuration of a training run: frozen dataclasses, each field documented with its unit. No I/O at import.

Precedence: defaults < recipe < YAML file < flags (`TrainConfig.resolve`). The resolved configuration is saved with the
run. A setting exists only if somebody changes it; a value that nobody changes is a constant where it is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from twincar.core.augmentation import STRICT, AugmentConfig, Positive, Probability
from twincar.core.errors import UsageError
from twincar.core.local_paths import name_only
from twincar.core.options import Head, Precision
from twincar.core.recipes import RECIPES
from twincar.core.user_files import read_bounded

Schedule = Literal["plateau", "cosine"]

Count = Annotated[int, Field(ge=1, lt=2**31)]
Pixels = Annotated[int, Field(ge=32, le=4096)]
Share = Annotated[float, Field(ge=0, lt=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

FLAGS = {"image_size": ("image_height", "image_width"), "limit": ("limit_batches",), "teacher": ("teachers",)}
"""The settings behind each flag of `train` that is not called as the one setting that it changes is."""

_DEEPEST = 8  # most levels in the name of a setting; the configuration has two


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """All settings of a training run; the defaults are the recipe for Stanford Cars."""

    recipe: str = "stanford"
    """The named recipe that the other values override."""
    data: str = ""
    """Folder of the prepared data set."""

    backbone: str = "tf_efficientnetv2_s.in21k"
    """Name of any timm network with a feature map before its pooling, such as an EfficientNetV2 or a ResNet."""
    pretrained: str = "hub"
    """Where the backbone's initial weights come from: 'hub', 'none', or the path of a local weights file."""
    head: Head = "mlp"
    """Classification head: 'mlp' is Linear-ReLU-Dropout-Linear with 512 units, 'linear' a single layer."""
    dropout: Share = 0.2
    """Dropout before the last layer, a share of the units."""
    drop_path: Share = 0.0
    """Stochastic depth: probability that the backbone's last block is skipped; it rises linearly from 0."""

    image_height: Pixels = 224
    """Height of the network's input, pixels."""
    image_width: Pixels = 224
    """Width of the network's input, pixels."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.875
    """Share of the resized photo's side that the centre crop keeps in evaluation; 224 of 256 pixels is 0.875."""
    initial_resolution: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the input's height and width at which training starts; it grows to 1 in four stages."""
    squash: bool = False
    """Evaluate on the whole photo, resized to the input without keeping its aspect ratio, instead of a centre crop."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of the training photos."""

    epochs: Count = 25
    """Largest number of passes over the training photos."""
    patience: Count = 7
    """Stop after this many epochs without a better macro-F1 on the validation photos."""
    limit_batches: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Use only this many batches of each pass, to try everything out in seconds; 0 is all."""
    epoch_repeats: Count = 1
    """Passes over the training photos in one epoch: with a small data set, validation after each pass takes long."""
    batch_size: Count = 32
    """Photos per step."""
    balanced: bool = True
    """Sample training photos so that every class is equally frequent (WeightedRandomSampler)."""
    learning_rate: Positive = 3e-4
    """Peak learning rate of AdamW."""
    weight_decay: Amount = 1e-5
    """Weight decay of AdamW; normalisation layers and biases have none."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Layer-wise decay: the learning rate of each stage of the backbone is that of the next stage times this factor."""
    schedule: Schedule = "plateau"
    """'plateau': a tenth of the rate after 3 epochs without a better macro-F1; 'cosine': to zero over all epochs."""
    warmup_epochs: Amount = 0.0
    """Linear warm-up before a cosine schedule, epochs."""
    label_smoothing: Share = 0.1
    """Label smoothing: share of the target that is spread over all classes."""
    mixup: Amount = 0.4
    """Alpha of Mixup's Beta distribution; 0 is off."""
    cutmix: Amount = 1.0
    """Alpha of CutMix's Beta distribution; 0 is off."""
    mix_probability: Probability = 1.0
    """Probability that a batch is mixed at all."""
    mix_until: Probability = 1.0
    """Share of the epochs, from the first, in which batches are mixed; the later ones see unmixed photos."""
    teachers: tuple[str, ...] = ()
    """Models whose averaged predictions the network learns to match (knowledge distillation); empty is off."""
    distill_weight: Probability = 0.7
    """Share of the teachers in the loss; the rest is that of the labels."""
    distill_temperature: Positive = 2.0
    """Temperature that softens the predictions of teachers and student for each other."""
    gradient_clip: Amount = 1.0
    """Largest norm of the gradient; 0 is off."""
    ema_decay: Share = 0.0
    """Decay per step of the exponential moving average of the weights, which is validated and saved; 0 is off."""

    precision: Precision = "auto"
    """'auto' is bf16 or fp16 on a GPU; on a CPU it is bf16 if a short trial shows that it is faster, else fp32."""
    compile: bool = False
    """Compile the network with torch.compile: it takes minutes at the start and makes each step somewhat faster."""
    workers: Annotated[int, Field(ge=-1)] = -1
    """Data-loader processes; -1 chooses by the number of cores."""
    cache: bool = False
    """Keep the training photos decoded in a file below the prepared data; its size is logged before it is built."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of everything random: order of the photos, augmentation, initial weights."""

    @classmethod
    def resolve(
        cls, *, recipe: str | None = None, yaml_file: Path | None = None, flags: Mapping[str, Any] | None = None
    ) -> TrainConfig:
        """Defaults < recipe < YAML file < flags; a flag that is None was not given.

        Raises:
            UsageError: an unknown recipe or name, or a value of the wrong kind or out of range.
        """
        values = read_yaml(yaml_file) if yaml_file else {}
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        chosen = recipe or given.get("recipe") or values.get("recipe", "stanford")
        if not isinstance(chosen, str) or chosen not in RECIPES:
            raise UsageError(f"Expected a recipe out of {', '.join(RECIPES)}, but found {_shown(chosen)}.")
        return cls.from_values(_merged(RECIPES[chosen], values, given, {"recipe": chosen}))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Check plain values and build the configuration; names that are not given keep their defaults.

        Raises:
            UsageError: an unknown name, or a value of the wrong kind or out of range.
        """
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError as error:
            raise UsageError(_in_a_sentence(error)) from None

    def to_yaml(self) -> str:
        """The whole configuration, for the run folder."""
        return yaml.safe_dump(_ADAPTER.dump_python(self, mode="json"), sort_keys=False)

    def to_flat(self) -> dict[str, Any]:
        """Plain values by their full names, such as 'augment.flip', without the files and folders of this computer."""
        values: dict[str, Any] = _ADAPTER.dump_python(self.without_paths(), mode="json")
        augment = values.pop("augment")
        return values | {f"augment.{name}": value for name, value in augment.items()}

    def without_paths(self) -> TrainConfig:
        """The configuration as others may see it: files and folders of this computer by their names only."""
        teachers = tuple(name_only(teacher) for teacher in self.teachers)
        return replace(self, data=name_only(self.data), pretrained=name_only(self.pretrained), teachers=teachers)


_ADAPTER = TypeAdapter(TrainConfig)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings, `name: value`.

    Raises:
        UsageError: there is no such file, or it is not a YAML mapping.
    """
    try:
        values = _parse_yaml(read_bounded(path).decode())
    except FileNotFoundError:
        raise UsageError(f"Expected a configuration file at {path}, but there is none.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"Expected YAML in {path}, but it cannot be read: {error}") from None
    if not isinstance(values, dict | None):
        raise UsageError(f"Expected 'name: value' lines in {path}, but found a {type(values).__name__}.")
    return values or {}


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse settings written as 'name=value' or 'augment.name=value'; values are read as YAML.

    >>> parse_settings(["ema_decay=0.99", "augment.flip=0"])
    {'ema_decay': 0.99, 'augment': {'flip': 0}}

    Raises:
        UsageError: a setting has no '=', or no valid YAML after it.
    """
    result: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"Expected a setting as NAME=VALUE, but found {setting!r}.")
        try:
            value = _parse_yaml(text)
        except ValueError:
            raise UsageError(f"Expected a value after '=' in {setting!r}, but it cannot be read.") from None
        parts = name.strip().split(".")
        if len(parts) > _DEEPEST:
            raise UsageError(f"Expected the name of a setting, but found {name!r}.")
        for part in reversed(parts):
            value = {part: value}
        result = _merged(result, value)
    return result


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, because a few nested aliases can expand to more values than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value out")
        return super().compose_node(parent, index)


def _parse_yaml(text: str) -> Any:
    """Parse a YAML text.

    Raises:
        ValueError: the text is not YAML.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # PyYAML raises almost anything for a scalar that does not fit its tag
        raise ValueError(str(error)) from None


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win; nested mappings (`augment`) are merged name by name."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            nested = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
            result[name] = _merged(result[name], value) if nested else value
    return result


def _in_a_sentence(error: ValidationError) -> str:
    """A sentence for the first error, with the nearest known name where a name is misspelt."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return f"Expected the name of a setting, but found {name!r}; {_hint(name[:100])}"
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    return f"The setting {name!r} {expected}, but {_shown(first['input'])} was found."


def _hint(name: str) -> str:
    """What was probably meant by a name that no setting has: a flag, or the setting whose own name is the nearest."""
    own = _own_name(name).replace("-", "_")
    if own in FLAGS:
        meant = " and ".join(map(repr, FLAGS[own]))
        return f"the flag --{own.replace('_', '-')} sets {meant}; did you mean {'these' if ' ' in meant else 'this'}?"
    known = [f.name for f in fields(TrainConfig)] + [f"augment.{f.name}" for f in fields(AugmentConfig)]
    by_own_name = {_own_name(setting): setting for setting in known}
    near = difflib.get_close_matches(own, by_own_name, n=1)
    return f"did you mean {by_own_name[near[0]]!r}?" if near else f"known are {', '.join(known)}."


def _own_name(setting: str) -> str:
    """The name without the part of the configuration that it belongs to, which is easily mistaken."""
    return setting.rpartition(".")[2]


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a very large {type(value).__name__}"
