"""What can be set, and the named recipes: frozen dataclasses, a line of doc with the unit per field; no I/O at import.

Precedence: defaults < recipe < YAML file < flags (`TrainConfig.resolve`). The resolved configuration is saved with the
run. An option exists because somebody uses it; what nobody changes is a constant where it is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from twincar.core.errors import UsageError
from twincar.core.local_paths import name_only
from twincar.core.options import Head, Precision
from twincar.core.recipes import RECIPES
from twincar.core.user_files import read_bounded

Schedule = Literal["plateau", "cosine"]

Count = Annotated[int, Field(ge=1, lt=2**31)]
Pixels = Annotated[int, Field(ge=32, le=4096)]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_DEEPEST = 8  # names within names in a setting; there are two

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AugmentConfig:
    """How a training photo is varied; the defaults are the strengths of the published recipe."""

    crop_scale: tuple[Positive, Positive] = (0.7, 1.0)
    """Area of the random crop, as a share of the photo's."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Width by height of the random crop, before it is squashed to the network's input."""
    flip: Probability = 0.5
    """Probability of a mirror image."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Rotation is drawn from plus or minus this, degrees."""
    brightness: Probability = 0.4
    """Brightness factor is drawn from 1 plus or minus this."""
    contrast: Probability = 0.4
    """Contrast factor is drawn from 1 plus or minus this."""
    saturation: Probability = 0.4
    """Saturation factor is drawn from 1 plus or minus this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Hue shift is drawn from plus or minus this, turns of the colour circle."""
    blur: Probability = 0.15
    """Probability of a Gaussian blur over 3 pixels."""
    trivial_augment: bool = False
    """TrivialAugment (Müller and Hutter, 2021) after all that: one operation of 14, at any strength."""

    def __post_init__(self) -> None:
        if not self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError("crop_scale must be two rising numbers, at most 1")
        if self.crop_ratio[0] > self.crop_ratio[1]:
            raise ValueError("crop_ratio must be two rising numbers")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """Everything that decides how a network is trained; the defaults are the recipe for Stanford Cars."""

    recipe: str = "stanford"
    """The named recipe the values started from."""
    data: str = ""
    """Folder of the prepared data set."""

    backbone: str = "tf_efficientnetv2_s.in21k"
    """Name of any timm EfficientNetV2."""
    pretrained: str = "hub"
    """Where the backbone's first weights come from: 'hub', 'none', or the path of a local weights file."""
    head: Head = "mlp"
    """Classifier: 'mlp' is Linear-ReLU-Dropout-Linear over 512 units, 'linear' a single layer."""
    dropout: Share = 0.2
    """Dropout before the last layer, a share of the units."""
    drop_path: Share = 0.0
    """Stochastic depth of the backbone's last block, a share of the photos."""

    image_height: Pixels = 224
    """Network input, pixels."""
    image_width: Pixels = 224
    """Network input, pixels."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.875
    """Share of the resized photo that the centre crop keeps in evaluation; 224 of 256 pixels is 0.875."""
    initial_resolution: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the input's height and width that training starts at; it grows to all in four stages."""
    squash: bool = False
    """Evaluate on the whole photo squashed to the input size, in place of a centre crop."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Variation of the training photos."""

    epochs: Count = 25
    """At most this many passes over the training photos."""
    patience: Count = 7
    """Stop after this many epochs without a better macro-F1 on the validation photos."""
    limit_batches: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Only this many batches a pass, to try everything out in seconds; 0 is all."""
    epoch_repeats: Count = 1
    """Times that a photo comes in an epoch: where the data set is small, validating after each pass takes long."""
    batch_size: Count = 32
    """Photos a step."""
    balanced: bool = True
    """Draw training photos so that every class comes equally often (WeightedRandomSampler)."""
    learning_rate: Positive = 3e-4
    """Peak learning rate of AdamW."""
    weight_decay: Amount = 1e-5
    """Weight decay of AdamW; norms and biases have none."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each stage of the backbone learns this much slower than the one after it, times; 1 is equally fast."""
    schedule: Schedule = "plateau"
    """'plateau': a tenth of the rate after 3 epochs without a better macro-F1; 'cosine': to zero over all epochs."""
    warmup_epochs: Amount = 0.0
    """Linear warm-up before a cosine schedule, epochs."""
    label_smoothing: Share = 0.1
    """Share of the target that is spread over all classes."""
    mixup: Amount = 0.4
    """Alpha of Mixup's Beta distribution; 0 is off."""
    cutmix: Amount = 1.0
    """Alpha of CutMix's Beta distribution; 0 is off."""
    mix_probability: Probability = 1.0
    """Probability that a batch is mixed at all."""
    mix_until: Probability = 1.0
    """Share of the epochs, from the first, in which batches are mixed; those after see photos as they are."""
    gradient_clip: Amount = 1.0
    """Largest norm of the gradient; 0 is off."""
    ema_decay: Share = 0.0
    """Decay a step of the moving average of the weights that is validated and saved; 0 is off."""

    precision: Precision = "auto"
    """'auto' is bf16 or fp16 on a GPU, and on a CPU bf16 where a short trial shows that it is quicker, else fp32."""
    compile: bool = False
    """Compile the network by torch.compile: minutes at the start, some gain in each step."""
    workers: Annotated[int, Field(ge=-1)] = -1
    """Data-loader processes; -1 chooses by the number of cores."""
    cache: bool = False
    """Keep the training photos decoded in a file below the prepared data; its size is told before it is built."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of everything random: order, draws, first weights."""

    @classmethod
    def resolve(
        cls, *, recipe: str | None = None, yaml_file: Path | None = None, flags: Mapping[str, Any] | None = None
    ) -> TrainConfig:
        """Defaults < recipe < YAML file < flags; a flag that is None was not given.

        Raises:
            UsageError: an unknown recipe or name, or a value of the wrong kind or out of range.
        """
        values = read_yaml(yaml_file) if yaml_file else {}
        chosen = recipe or values.get("recipe", "stanford")
        if not isinstance(chosen, str) or chosen not in RECIPES:
            raise UsageError(f"Expected a recipe out of {', '.join(RECIPES)}, and found {_shown(chosen)}.")
        given = {name: value for name, value in (flags or {}).items() if value is not None}
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

    def without_paths(self) -> TrainConfig:
        """The configuration as others may see it: files and folders of this computer by their names only."""
        return replace(self, data=name_only(self.data), pretrained=name_only(self.pretrained))


_ADAPTER = TypeAdapter(TrainConfig)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read 'name: value' lines.

    Raises:
        UsageError: there is no such file, or it is something else.
    """
    try:
        values = _parse_yaml(read_bounded(path).decode())
    except FileNotFoundError:
        raise UsageError(f"Expected a configuration file at {path}, and there is none.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"Expected YAML in {path}, and it cannot be read: {error}") from None
    if not isinstance(values, dict | None):
        raise UsageError(f"Expected 'name: value' lines in {path}, and found a {type(values).__name__}.")
    return values or {}


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Settings written as 'name=value' or 'augment.name=value'; values are read as YAML.

    >>> parse_settings(["ema_decay=0.99", "augment.flip=0"])
    {'ema_decay': 0.99, 'augment': {'flip': 0}}

    Raises:
        UsageError: one of them has no '=', or no YAML after it.
    """
    result: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"Expected a setting as NAME=VALUE, and found {setting!r}.")
        try:
            value = _parse_yaml(text)
        except ValueError:
            raise UsageError(f"Expected a value after '=' in {setting!r}, and it cannot be read.") from None
        parts = name.strip().split(".")
        if len(parts) > _DEEPEST:
            raise UsageError(f"Expected the name of a setting, and found {name!r}.")
        for part in reversed(parts):
            value = {part: value}
        result = _merged(result, value)
    return result


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more values than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value out")
        return super().compose_node(parent, index)


def _parse_yaml(text: str) -> Any:
    """The value of a text.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # a scalar that is not what its tag says makes PyYAML raise almost anything
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
    """The first thing wrong, and for a misspelt name the nearest right one."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        known = [f.name for f in fields(TrainConfig)] + [f"augment.{f.name}" for f in fields(AugmentConfig)]
        near = difflib.get_close_matches(name[:100], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        return f"Expected the name of a setting, and found {name!r}; {hint}"
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    return f"The setting {name!r} {expected}, and {_shown(first['input'])} was found."


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a very large {type(value).__name__}"
