"""The model card: its contents, its format for the hub, and the escaping of names that users have chosen."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard as HubCard
from markdown_it import MarkdownIt
from pydantic import TypeAdapter
from test_report_artifacts import METRICS

import twincar.deploy.model_card
from twincar.core.config import TrainConfig
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.preprocess import Preprocessing
from twincar.deploy.model_card import DataFacts, ModelCard, RunFacts
from twincar.evaluation.results import CorruptionScore, Evaluation, OpenSetEvaluation, Robustness
from twincar.metrics.classification import Interval
from twincar.metrics.reliability import UnknownGroup
from twincar.models.calibration import Calibration
from twincar.models.license import with_license
from twincar.models.spec import ModelSpec

MEASURED = TypeAdapter(Evaluation).validate_python(METRICS)
TOYS = ("Aurora Falcon Sedan 2012", "Aurora Falcon Coupe 2012")


def spec_of(source: str, classes: tuple[str, ...] = TOYS, revision: str = "") -> ModelSpec:
    return ModelSpec(
        backbone="tf_efficientnetv2_b0",
        head="linear",
        classes=ClassNames(classes),
        preprocessing=Preprocessing(height=64, width=96),
        provenance={"data": {"source": source, "revision": revision}, "versions": {"twincar": "1", "torch": "2"}},
    )


def card_of(spec: ModelSpec, licence: str | None = None, **changes: Any) -> ModelCard:
    run = RunFacts(
        config=TrainConfig.resolve(recipe="toycars"),
        history=[{"epoch": 1, "val_f1_macro": 0.2}, {"epoch": 2, "val_f1_macro": 0.5}],
        photos={"train": 1896, "val": 20, "test": 8},
        metrics=MEASURED,
        corruptions=None,
        open_set=None,
    )
    return ModelCard(
        repository="someone/my_cars",
        spec=with_license(spec, licence) if licence else spec,
        is_exported=True,
        loads_in_timm=True,
        run=replace(run, **changes),
    )


def test_doctests() -> None:
    result = doctest.testmod(twincar.deploy.model_card)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_metadata_goes_through_the_hubs_own_parser() -> None:
    made = card_of(spec_of("hub:someone/photos", revision="abc"), "mit")
    read = HubCard(made.to_markdown()).data
    assert read.to_dict() == made.metadata().to_dict()
    accuracy = next(result for result in read.eval_results if result.metric_type == "accuracy")
    assert (accuracy.metric_value, accuracy.dataset_type, accuracy.dataset_revision) == (0.5, "someone/photos", "abc")
    assert (read.license, read.datasets, read.model_name) == ("mit", ["someone/photos"], "my_cars")
    values = {result.metric_type: result.metric_value for result in read.eval_results}
    assert values == {"accuracy": 0.5, "f1": 0.4, "top_5_accuracy": 1, "expected_calibration_error": 0.02}


@pytest.mark.parametrize(
    ("source", "classes", "chosen", "expected"),
    [
        ("toycars:0", TOYS, None, ("apache-2.0", None)),
        ("hub:tanganke/stanford_cars", stanford_cars(), None, ("other", "non-commercial-research")),
        ("my_folder", stanford_cars()[:98], None, ("other", "non-commercial-research")),
        ("my_folder", TOYS, None, (None, None)),
        ("toycars", TOYS, None, (None, None)),  # a folder of this name
        ("my_folder", TOYS, "cc-by-4.0", ("cc-by-4.0", None)),
        ("my_folder", stanford_cars(), "cc-by-nc-4.0", ("cc-by-nc-4.0", None)),
    ],
)
def test_the_licence_of_the_weights_is_by_default_that_of_the_data(
    source: str, classes: tuple[str, ...], chosen: str | None, expected: tuple[str | None, str | None]
) -> None:
    text = card_of(spec_of(source, classes), chosen).to_markdown()
    read = HubCard(text).data
    assert (read.license, read.license_name) == expected
    assert "**Code (TwinCar):** Apache-2.0." in text
    assert ("Stanford Cars (Krause et al., 2013)" in text) == (classes != TOYS)


def test_missing_results_are_not_mentioned(golden: Callable[[str, str], None]) -> None:
    text = card_of(spec_of("toycars:0")).to_markdown()
    golden("model_card_little_measured", text)
    assert "corrupted" not in text
    assert "AUROC" not in text
    spatter = CorruptionScore("spatter", 1, 0.321, 0.2, 0.5, 8)
    group = UnknownGroup("hard", is_car=True, photos=1200, auroc=0.75, fpr95=1, oscr=0, rejected=0, auroc_by_others={})
    text = card_of(
        replace(spec_of("toycars:0"), calibration=Calibration(min_quantile_quantiles=(0.0, 1.0), photos=1216)),
        corruptions=Robustness("test", 8, True, Interval(0.5, 0.4, 0.6), (spatter,), Path()),
        open_set=OpenSetEvaluation("test", 8, 0.5, 0.05, 0.05, [group], Path()),
    ).to_markdown()
    golden("model_card", text)
    assert all(figure in text for figure in ("hard (1,200) | 0.750 |", "mean | 0.321 |", "1,216"))


def test_results_on_validation_photos_are_labelled_as_such() -> None:
    text = card_of(spec_of("toycars:0"), metrics=replace(MEASURED, split="val")).to_markdown()
    assert "by which the best epoch was chosen" in text
    assert HubCard(text).data.eval_results[0].dataset_split == "validation"


NASTY = (
    "A | B *bold* 2012",
    "<script>alert(1)</script> X 2011",
    "[click](http://evil.example) Y 2010",
    "![p](x.png) `code` Z 2009",
    "line --- # heading W 2008",
    "www.evil.example {{ spec }} V 2007",
    "https://evil.example/?a=1 U 2006",
    "key: 'value' \"quoted\" # comment T 2005",
)


def test_markup_in_names_is_escaped_in_text_and_metadata() -> None:
    """The text is rendered by a Markdown parser with HTML and tables, as on the hub."""
    spec = spec_of("a\n---\nlicense: mit\n<b>|[x](y)", NASTY)
    text = card_of(spec).to_markdown()
    card = HubCard(text)
    assert card.data.license is None
    assert card.data.eval_results[0].dataset_name == "folder a --- license: mit <b>|[x](y)"
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(card.text)
    flat = [inner for token in tokens for inner in (token, *(token.children or []))]
    html = [token.content.strip() for token in flat if token.type in ("html_block", "html_inline")]
    assert {part.partition(">")[0] for part in html} == {"<details", "</details"}
    assert [token.attrs["src"] for token in flat if token.type == "image"] == ["reliability.png", "most_confused.png"]
    assert not {"link_open", "em_open", "s_open"} & {token.type for token in flat}
    assert [token.tag for token in flat if token.type == "heading_open"].count("h1") == 1
    shown = ["".join(child.content for child in token.children or []) for token in tokens if token.type == "inline"]
    assert {" ".join(name.split()) for name in NASTY} <= {cell.replace("\u200b", "") for cell in shown}
    assert "://evil" not in card.text  # a hub makes links of bare addresses
    assert "www.evil" not in card.text


def test_what_the_header_holds_does_nothing_in_the_card_of_a_model_without_its_run() -> None:
    spec = replace(
        spec_of("crops", NASTY),
        license="cc-by-4.0",
        license_notice="Mine.\n\n# Not a heading\n[a](http://evil.example) <b>",
        provenance={"recipe": {"<b>": "[x](y)"}, "epoch": "<i>", "versions": {"<u>": ["[v](w)"]}, "validation": "none"},
    )
    text = ModelCard(repository="a/b", spec=spec, is_exported=True, loads_in_timm=False, run=None).to_markdown()
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(HubCard(text).text)
    flat = [inner for token in tokens for inner in (token, *(token.children or []))]
    html = [token.content.strip() for token in flat if token.type in ("html_block", "html_inline")]
    assert {part.partition(">")[0] for part in html} == {"<details", "</details"}
    assert not {"link_open", "image", "em_open", "s_open"} & {token.type for token in flat}
    notice = [token.content for token in tokens if token.type == "code_block"]
    assert notice == ["Mine.\n\n# Not a heading\n[a](http://evil.example) <b>\n"]


@pytest.mark.parametrize(
    ("pretrained", "expected"), [("hub", "timm/tf_efficientnetv2_s.in21k"), ("none", None), ("my.pth", None)]
)
def test_the_base_model_is_named_if_there_is_one(pretrained: str, expected: str | None) -> None:
    config = TrainConfig(pretrained=pretrained)
    assert card_of(spec_of("toycars:0"), config=config).metadata().base_model == expected


def test_the_data_set_has_its_public_name() -> None:
    assert DataFacts.of(spec_of("toycars:0")).name == "TwinCar's drawn cars"
    assert DataFacts.of(spec_of("hub:a/b")) == DataFacts("a/b", "a/b", "")
    assert DataFacts.of(spec_of("crops", stanford_cars())).name == "Stanford Cars (folder crops)"
