"""The model card, which is the page of a model on the hub: usage, results, data, recipe, limitations and licences.

Its metadata is written by the hub's own library (`ModelCardData`), so that the hub shows the results. Class names and
names of data sets are chosen by users: they are escaped in the text and cannot be markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
from huggingface_hub import EvalResult, ModelCardData

from twincar.core.config import TrainConfig
from twincar.core.html import environment
from twincar.core.labels import slug
from twincar.core.runs import Epoch, best_epoch, ending
from twincar.core.version import __version__
from twincar.evaluation.results import Evaluation, OpenSetEvaluation, Robustness
from twincar.models.license import TOYCARS, License, is_stanford_cars
from twincar.models.spec import ModelSpec

_TASK = "image-classification"
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")
_LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)  # what becomes a link by itself
_EMPTY_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class DataFacts:
    """The data set that a model was trained on, as it may be published."""

    name: str
    """Its name, without its path on this computer."""
    hub_name: str | None
    """owner/name, if it is on the hub."""
    revision: str

    @classmethod
    def of(cls, spec: ModelSpec) -> DataFacts:
        """The data set in the provenance of a model."""
        data = spec.provenance.get("data") or {}
        source = str(data.get("source") or "unknown")
        hub_name = source.removeprefix("hub:") if source.startswith("hub:") else None
        named = "TwinCar's drawn cars" if source.startswith(TOYCARS) else hub_name or f"folder {source}"
        is_stanford = not source.startswith(TOYCARS) and is_stanford_cars(spec.before_teaching().classes)
        return cls(
            name=f"Stanford Cars ({named})" if is_stanford else named,
            hub_name=hub_name,
            revision=str(data.get("revision") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of a training run, beyond the header of its model."""

    config: TrainConfig
    history: list[Epoch]
    photos: Mapping[str, int]
    """Number of photos by split."""
    metrics: Evaluation
    corruptions: Robustness | None
    open_set: OpenSetEvaluation | None

    @property
    def base_model(self) -> str | None:
        """The hub's name of the initial weights; None for random weights and for those of a file."""
        if self.config.pretrained != "hub":
            return None
        pretrained = timm.get_pretrained_cfg(self.config.backbone)
        return f"timm/{pretrained.architecture}.{pretrained.tag}" if pretrained and pretrained.tag else None

    def to_template(self) -> dict[str, Any]:
        """The values for the template."""
        return {
            **vars(self),
            "epochs": len(self.history),
            "best_epoch": int(best_epoch(self.history)["epoch"]),
            "ending": ending(self.config, self.history),
        }


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The content of a model card."""

    repository: str
    """owner/name."""
    spec: ModelSpec
    is_exported: bool
    """Whether the repository has an exported model, which is used without torch."""
    loads_in_timm: bool
    """Whether timm alone can load it."""
    run: RunFacts | None
    """None for a model without its run: results and settings are then not known."""

    @property
    def license(self) -> License:
        """The licences of weights and data."""
        return License.of(self.spec)

    def to_markdown(self) -> str:
        """The text of `README.md`: metadata, then the page."""
        body = (
            # It is Markdown, where `finalize` escapes.
            environment("cards", autoescape=False, finalize=escape_markdown)
            .get_template("model.md.jinja")
            .render(
                {
                    **vars(self),
                    **(self.run.to_template() if self.run else {}),
                    "license": self.license,
                    "notice": _as_code(self.spec.license_notice),
                    "repository": Verbatim(self.repository),
                    "name": self.repository.partition("/")[2],
                    "data": DataFacts.of(self.spec),
                    "recorded": _recorded(self.spec),
                    "versions": {str(what): str(version) for what, version in _entries(self.spec, "versions").items()},
                    "validation": _scores(self.spec),
                    "version": __version__,
                }
            )
        )
        page = _EMPTY_LINES.sub("\n\n", body).strip()
        return f"---\n{self.metadata().to_yaml()}\n---\n\n{page}\n"

    def metadata(self) -> ModelCardData:
        """The metadata for the hub: licence, library, task, data and results."""
        data, run = DataFacts.of(self.spec), self.run
        tags = ["twincar", *["onnx"] * self.is_exported, "cars", "fine-grained-classification"]
        return ModelCardData(
            license=self.license.id,
            license_name=self.license.name,
            library_name="timm" if self.loads_in_timm else "twincar",
            pipeline_tag=_TASK,
            tags=[*tags, *["timm"] * self.loads_in_timm],
            base_model=run.base_model if run else None,
            datasets=[data.hub_name] if data.hub_name else None,
            metrics=["accuracy", "f1"] if run else None,
            model_name=self.repository.partition("/")[2],
            eval_results=_results(run.metrics, data) if run else None,
        )


def _results(metrics: Evaluation, data: DataFacts) -> list[EvalResult]:
    """The results in the form in which the hub shows them."""
    values = [
        ("accuracy", "Accuracy", metrics.accuracy.value),
        ("f1", "Macro-F1", metrics.macro_f1.value),
        ("top_5_accuracy", "Top-5 accuracy", metrics.metrics.get("top5")),
        ("expected_calibration_error", "Expected calibration error", metrics.calibration.after["ece"]),
    ]
    return [
        EvalResult(
            task_type=_TASK,
            task_name="Image classification",
            dataset_type=data.hub_name or slug(data.name),
            dataset_name=one_line(data.name),
            dataset_split={"val": "validation"}.get(metrics.split, metrics.split),
            dataset_revision=data.revision or None,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for kind, name, value in values
        if value is not None
    ]


def _entries(spec: ModelSpec, name: str) -> Mapping[Any, Any]:
    """An object in the provenance, in which a file from elsewhere may have anything."""
    found = spec.provenance.get(name)
    return found if isinstance(found, Mapping) else {}


def _recorded(spec: ModelSpec) -> dict[str, str]:
    """Settings that are recorded in the provenance, and the precision of the file."""
    settings = {name: str(spec.provenance[name]) for name in ("recipe", "seed", "epoch") if name in spec.provenance}
    return {**settings, "precision": spec.arithmetic}


def _scores(spec: ModelSpec) -> dict[str, float]:
    """The scores on the validation photos that are recorded in the provenance, by their names on the card."""
    recorded = _entries(spec, "validation")
    named = {"accuracy": recorded.get("val_acc"), "macro-F1": recorded.get("val_f1_macro")}
    return {name: float(value) for name, value in named.items() if isinstance(value, int | float)}


class Verbatim(str):
    """Text that is inserted into Markdown unchanged."""

    __slots__ = ()


def _as_code(text: str) -> Verbatim:
    """Text as an indented code block, which Markdown shows literally."""
    return Verbatim("\n".join(f"    {one_line(line)}" for line in text.strip().splitlines()))


def escape_markdown(value: Any) -> Any:
    """Escape text so that Markdown shows it literally: it cannot make a link, picture, HTML, table cell or line.

    >>> escape_markdown("a|b <i>*c*</i>")
    'a\\\\|b \\\\<i\\\\>\\\\*c\\\\*\\\\</i\\\\>'
    """
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return value
    return _LINKS.sub("\u200b", _MARKUP.sub(r"\\\1", one_line(value)))


def one_line(text: str) -> str:
    """Text without line breaks and other control characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
