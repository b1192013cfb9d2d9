from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import typer
import yaml

from twincar.cli import app
from twincar.core.config import FLAGS, TrainConfig, parse_settings
from twincar.core.errors import UsageError
from twincar.core.recipes import RECIPES


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("recipe: toycars\nepochs: 5\nbatch_size: 16\naugment:\n  flip: 0.25\n")
    config = TrainConfig.resolve(yaml_file=file, flags={"epochs": 3, "seed": None})
    assert (config.recipe, config.backbone) == ("toycars", "tf_efficientnetv2_b0_half")  # recipe over default
    assert (config.batch_size, config.augment.flip) == (16, 0.25)  # file over recipe
    assert config.augment.blur == RECIPES["toycars"]["augment"]["blur"]  # nested settings are merged, not replaced
    assert (config.epochs, config.seed) == (3, 0)  # flag over file; a flag that was not given changes nothing


def test_a_recipe_among_the_flags_is_taken() -> None:
    assert TrainConfig.resolve(flags={"recipe": "lite"}) == TrainConfig.resolve(recipe="lite")


def test_each_flag_of_another_name_sets_settings_that_there_are() -> None:
    flags = typer.main.get_command(app).commands["train"].params  # type: ignore[attr-defined]
    assert FLAGS.keys() <= {flag.name for flag in flags}
    assert {setting for settings in FLAGS.values() for setting in settings} <= {f.name for f in fields(TrainConfig)}


def test_the_published_recipe_has_the_published_values() -> None:
    config = TrainConfig.resolve(recipe="published")
    assert (config.backbone, config.head, config.dropout) == ("efficientnetv2_rw_s", "mlp", 0.2)
    assert (config.epochs, config.patience, config.batch_size) == (25, 7, 32)
    assert (config.mixup, config.cutmix, config.label_smoothing, config.schedule) == (0.4, 1.0, 0.1, "plateau")
    augment = config.augment
    assert (augment.crop_scale, augment.rotation, augment.blur, augment.flip) == ((0.7, 1.0), 15, 0.15, 0.5)
    assert (augment.brightness, augment.contrast, augment.saturation, augment.hue) == (0.4, 0.4, 0.4, 0.2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_survives_its_own_yaml(recipe: str) -> None:
    config = TrainConfig.resolve(recipe=recipe)
    assert TrainConfig.from_values(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochz": 3}, "did you mean 'epochs'"),
        ({"augment": {"flp": 0.5}}, "did you mean 'augment.flip'"),
        ({"augment": {"mixup": 0}}, "found 'augment.mixup'; did you mean 'mixup'"),
        ({"flip": 0}, "did you mean 'augment.flip'"),
        ({"batch-size": 8}, "did you mean 'batch_size'"),
        ({"image_size": 128}, "the flag --image-size sets 'image_height' and 'image_width'; did you mean these"),
        ({"limit": 3}, "the flag --limit sets 'limit_batches'; did you mean this"),
        ({"quux": 3}, "known are recipe, data"),
        ({"epochs": 0}, "epochs.*greater than or equal to 1"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate.*number"),
        ({"head": "huge"}, "'mlp' or 'linear'"),
        ({"augment": {"crop_scale": [1.0, 0.5]}}, "rising"),
        ({"augment": {"box_jitter": [0.5, 0.3]}}, "box_jitter.*less than or equal to 0.4"),
        ({"image_height": 5}, "image_height.*32"),
    ],
)
def test_a_wrong_setting_gets_one_clear_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        TrainConfig.from_values(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("[1, 2]", "found a list"), ("a: [", "cannot be read"), ("recipe: best2", "stanford")]
)
def test_a_wrong_file_gets_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        TrainConfig.resolve(yaml_file=file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is none"):
        TrainConfig.resolve(yaml_file=tmp_path / "none.yaml")


def test_parse_settings_reads_nested_yaml_values() -> None:
    assert parse_settings(["augment.flip=0", "augment.hue=0.1", "squash=true"]) == {
        "augment": {"flip": 0, "hue": 0.1},
        "squash": True,
    }
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_settings(["squash"])


def test_the_recipes_in_their_descriptions_are_all_there_are() -> None:
    """Each has a line in the text below `RECIPES`, and in the help of `--recipe`."""
    import inspect
    from typing import get_args

    from twincar.cli.training import RecipeOption
    from twincar.core import recipes

    text = inspect.getsource(recipes).split("What each recipe sets", 1)[1]
    told = get_args(RecipeOption)[1].help
    for recipe in RECIPES:
        assert f"- `{recipe}`: " in text
        assert recipe in told
