"""The page of a model on the hub: what it is, how good, from what data, under which licence, with the hub's metadata.

Metadata is made and read by the hub's own library (`ModelCardData`), so that the hub shows the results. Names of
classes and of data sets are whatever a user has called them; in the text they are escaped and cannot be markup.
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
    """The data set a model learnt from, as others may know of it."""

    name: str
    """Without the path it has on this computer."""
    hub_name: str | None
    """owner/name, if it is on the hub."""
    revision: str

    @classmethod
    def of(cls, spec: ModelSpec) -> DataFacts:
        """From the provenance of a model."""
        data = spec.provenance.get("data") or {}
        source = str(data.get("source") or "unknown")
        hub_name = source.removeprefix("hub:") if source.startswith("hub:") else None
        named = "TwinCar's drawn cars" if source.startswith(TOYCARS) else hub_name or f"folder {source}"
        is_stanford = not source.startswith(TOYCARS) and is_stanford_cars(spec.classes)
        return cls(
            name=f"Stanford Cars ({named})" if is_stanford else named,
            hub_name=hub_name,
            revision=str(data.get("revision") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """All that the page tells."""

    repository: str
    """owner/name."""
    spec: ModelSpec
    config: TrainConfig
    history: list[Epoch]
    photos: Mapping[str, int]
    """By split."""
    metrics: Evaluation
    corruptions: Robustness | None
    open_set: OpenSetEvaluation | None
    licence: License
    loads_in_timm: bool
    """Whether plain timm can load it."""

    def to_markdown(self) -> str:
        """The text of `README.md`: metadata, then the page."""
        body = (
            # It is Markdown, where `finalize` escapes.
            environment("cards", autoescape=False, finalize=escape_markdown)
            .get_template("model.md.jinja")
            .render(
                {
                    **vars(self),
                    "repository": Verbatim(self.repository),
                    "name": self.repository.partition("/")[2],
                    "data": DataFacts.of(self.spec),
                    "epochs": len(self.history),
                    "best_epoch": int(best_epoch(self.history)["epoch"]),
                    "ending": ending(self.history, epochs=self.config.epochs, patience=self.config.patience),
                    "versions": self.spec.provenance.get("versions") or {},
                    "version": __version__,
                }
            )
        )
        page = _EMPTY_LINES.sub("\n\n", body).strip()
        return f"---\n{self.metadata().to_yaml()}\n---\n\n{page}\n"

    def metadata(self) -> ModelCardData:
        """What the hub reads: licence, library, task, data, and the results."""
        data = DataFacts.of(self.spec)
        return ModelCardData(
            license=self.licence.id,
            license_name=self.licence.name,
            library_name="timm" if self.loads_in_timm else "twincar",
            pipeline_tag=_TASK,
            tags=["twincar", "onnx", "cars", "fine-grained-classification", *(["timm"] if self.loads_in_timm else [])],
            base_model=_base_model(self.config),
            datasets=[data.hub_name] if data.hub_name else None,
            metrics=["accuracy", "f1"],
            model_name=self.repository.partition("/")[2],
            eval_results=self._results(data),
        )

    def _results(self, data: DataFacts) -> list[EvalResult]:
        metrics = self.metrics
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


class Verbatim(str):
    """Text that may stand in Markdown as it is."""

    __slots__ = ()


def escape_markdown(value: Any) -> Any:
    """Text that shows in Markdown as it is and does nothing: no link, picture, HTML, table cell or line of its own.

    >>> escape_markdown("a|b <i>*c*</i>")
    'a\\\\|b \\\\<i\\\\>\\\\*c\\\\*\\\\</i\\\\>'
    """
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return value
    return _LINKS.sub("\u200b", _MARKUP.sub(r"\\\1", one_line(value)))


def one_line(text: str) -> str:
    """Text without line breaks and other control characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _base_model(config: TrainConfig) -> str | None:
    """What the hub calls the weights a run started from; None for random weights and for those of a file."""
    if config.pretrained != "hub":
        return None
    pretrained = timm.get_pretrained_cfg(config.backbone)
    return f"timm/{pretrained.architecture}.{pretrained.tag}" if pretrained and pretrained.tag else None
