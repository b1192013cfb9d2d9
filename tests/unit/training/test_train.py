from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from command_line import run as run_command
from conftest import small_config, without_seconds
from disks import files_no_larger_than, held_elsewhere
from lightning.pytorch import LightningModule, Trainer
from small_backbone import BACKBONE

from tests.robustness.forked import Forked, command_line, start
from twincar.core.config import TrainConfig
from twincar.core.errors import DataError, PhotoError, StorageError, TwinCarError, UsageError
from twincar.core.files import sha256_of
from twincar.core.labels import ClassNames
from twincar.core.runs import MONITOR, RunFolder, best_epoch
from twincar.data.dataset import PreparedData
from twincar.data.loading.loader import labels_of
from twincar.evaluation.evaluate import evaluate
from twincar.models.calibration_fit import fit_calibration
from twincar.models.checkpoint import build_network, load_initial, load_model
from twincar.models.engines.open import compute_logits, open_engine
from twincar.models.network import CarNet
from twincar.training.announcement import announce
from twincar.training.callbacks import AveragedWeights, EpochBar, Heartbeat, quiet_lightning
from twincar.training.mixing import BatchMixer
from twincar.training.module import TrainingModule, training_size, warmup_cosine
from twincar.training.recorder import Recorder
from twincar.training.train import _first_network, _provenance, model_spec, resume, train

# The columns of the log published with the first model.
PUBLISHED_COLUMNS = [
    "epoch",
    "train_loss",
    "train_acc",
    "val_loss",
    "val_acc",
    "val_precision_macro",
    "val_precision_weighted",
    "val_recall_macro",
    "val_recall_weighted",
    "val_f1_macro",
    "val_f1_weighted",
    "val_hamming",
    "val_cohen_kappa",
    "val_mcc",
    "val_jaccard_macro",
    "val_top3",
    "val_top5",
]


def test_a_run_has_its_parts(small_run: Path, small_data: Path) -> None:
    run = RunFolder.open(small_run)
    history = run.read_history()
    assert [row["epoch"] for row in history] == [1, 2]
    assert set(history[0]) == {*PUBLISHED_COLUMNS, "val_ece", "val_brier", "learning_rate", "seconds"}
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert run.last.exists()
    network, spec = load_model(run.best)
    assert spec.classes == PreparedData.open(small_data).classes
    assert spec.provenance["epoch"] == best_epoch(history)["epoch"]
    assert not network.training


def test_the_weights_that_are_kept_are_calibrated_on_the_validation_photos(small_run: Path) -> None:
    """The temperature and the quantiles, fitted again to what the saved network says."""
    run = RunFolder.open(small_run)
    spec = load_model(run.best)[1]
    data = PreparedData.of_run(run)
    photos = data.split("val")
    engine, _ = open_engine(run.path)
    logits = compute_logits(engine, spec.preprocessing, [data.path(photo) for photo in photos])[:, 0]
    again = fit_calibration(logits, labels_of(photos))
    assert spec.calibration.photos == len(photos)
    assert spec.calibration.temperature == pytest.approx(again.temperature, rel=1e-2)
    assert spec.calibration.max_logit_quantiles == pytest.approx(again.max_logit_quantiles, abs=1e-3)
    assert spec.calibration.min_quantile_quantiles == pytest.approx(again.min_quantile_quantiles, abs=0.02)


def test_learning_reaches_the_training_photos(small_data: Path, tmp_path: Path) -> None:
    """Four colours are told apart in a few epochs, or the loop does not learn."""
    plain = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.5, 1.5), "rotation": 0, "blur": 0}
    colours = {"hue": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    config = small_config(
        small_data, epochs=6, batch_size=4, mix_probability=0, label_smoothing=0, augment={**plain, **colours}
    )
    history = train(config, tmp_path / "run").history
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.15
    assert history[-1]["train_acc"] > 0.4  # one in four is chance


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the first step after so many epochs."""
    step = TrainingModule.training_step

    def training_step(self: TrainingModule, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        if self.current_epoch == epochs:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)


@pytest.mark.parametrize(
    "changes", [{"schedule": "plateau"}, {"schedule": "cosine", "warmup_epochs": 1, "ema_decay": 0.9}]
)
def test_a_resumed_run_ends_as_one_never_interrupted(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    config = small_config(small_data, epochs=3, **changes)
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts")
    assert [row["epoch"] for row in RunFolder.open(tmp_path / "parts").read_history()] == [1, 2]
    load_model(tmp_path / "parts" / "best.safetensors")  # what was reached can be used
    parts = resume(tmp_path / "parts")
    assert without_seconds(parts.history) == without_seconds(whole.history)
    assert parts.run.read_history() == parts.history
    assert load_model(parts.run.best)[1].provenance == load_model(whole.run.best)[1].provenance
    ours, theirs = (load_model(result.run.best)[0].state_dict() for result in (parts, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_interrupt_in_the_first_epoch_can_be_resumed(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_run: Path
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(0, patch)
        with pytest.raises(KeyboardInterrupt):
            train(small_config(small_data), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # the next Ctrl-C works too
    with pytest.raises(DataError, match="--resume"):
        RunFolder.open(tmp_path / "run").read_history()
    again, undisturbed = resume(tmp_path / "run").history, RunFolder.open(small_run).read_history()
    assert without_seconds(again) == without_seconds(undisturbed)


def test_a_finished_run_is_left_as_it_is(small_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_run.rglob("*")}
    assert len(resume(small_run).history) == 2
    assert {path: path.stat().st_mtime_ns for path in small_run.rglob("*")} == before


def test_training_stops_early(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.3, 0.5, 0.4, 0.5, 0.2, 0.9])
    fixed = {"loss": 1.0, "acc": 0.5, "top5": 1.0}
    monkeypatch.setattr(
        "twincar.training.recorder.classification_metrics", lambda _: {"f1_macro": next(scores), **fixed}
    )
    result = train(small_config(small_data, epochs=6, patience=3, limit_batches=1), tmp_path / "run")
    assert [row["val_f1_macro"] for row in result.history] == [0.3, 0.5, 0.4, 0.5, 0.2]
    assert result.best["epoch"] == 2  # the first of equals
    assert load_model(result.run.best)[1].provenance["epoch"] == 2
    assert result.ending == "It stopped early, after 5 of at most 6 epochs: the 3 after the best were no better."
    assert resume(result.run.path).ending == result.ending


def test_the_rate_and_the_time_of_each_epoch_are_recorded(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One step an epoch, half of them to warm up: the peak in the second; then half a cosine, half way down and at its
    start."""
    clock = iter([10.0, 12.5, 20.0, 21.25, 30.0, 33.0, 40.0, 40.5])
    monkeypatch.setattr("twincar.training.recorder.perf_counter", lambda: next(clock))
    config = small_config(
        small_data, epochs=4, limit_batches=1, learning_rate=1e-3, schedule="cosine", warmup_epochs=2, layer_decay=0.9
    )
    with caplog.at_level("INFO", "twincar"):
        run = train(config, tmp_path / "run").run
    rows = run.read_history()
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.5e-3])
    assert [row["seconds"] for row in rows] == [2.5, 1.25, 3.0, 0.5]
    line = next(line for line in caplog.messages if line.startswith("epoch 1/4"))
    assert line == (
        f"epoch 1/4  loss {rows[0]['train_loss']:.3f} | val accuracy {rows[0]['val_acc']:.3f}  "
        f"macro-F1 {rows[0][MONITOR]:.3f} (best)  2 s"
    )


def test_the_progress_bar_shows_the_loss_only(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a second figure it takes two lines of a terminal of 80 columns."""
    shown, log = set(), TrainingModule.log

    def watched(module: TrainingModule, name: str, *values: Any, prog_bar: bool = False, **how: Any) -> None:
        shown.update([name] * prog_bar)
        log(module, name, *values, prog_bar=prog_bar, **how)

    monkeypatch.setattr(TrainingModule, "log", watched)
    train(small_config(small_data, epochs=1, limit_batches=1), tmp_path / "run")
    assert shown == {"step loss"}


def test_the_line_of_an_epoch_fits_a_terminal(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(RunFolder(tmp_path), model_spec(small_config(small_data), PreparedData.open(small_data)), "")
    row = {"epoch": 100, "seconds": 86399.0, "train_loss": 12.345, "val_acc": 0.123, MONITOR: 0.123}
    recorder.history = [row]
    with caplog.at_level("INFO", "twincar"):
        recorder._log_row(row, 1000)
    assert caplog.messages[0].endswith("(best)  86399 s")
    assert len(caplog.messages[0]) <= 80


def test_the_weights_it_begins_with_and_few_photos_are_told(small_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = PreparedData.open(small_data)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    caplog.clear()
    random = small_config(small_data, backbone="tf_efficientnetv2_s.in21k")
    with caplog.at_level("INFO", "twincar"):
        announce(random, data, trainer)
    begun, few, hint = caplog.messages
    assert begun.startswith("Training tf_efficientnetv2_s from random weights on 36 photos of 4 classes")
    assert few.startswith("Only 12 validation photos")
    assert all(words in hint for words in ("meant for pretrained weights", "--recipe lite", "twincar teach"))
    for changes, weights in (({"recipe": "toycars"}, "random weights"), ({"pretrained": "hub"}, "pretrained weights")):
        caplog.clear()
        with caplog.at_level("INFO", "twincar"):
            announce(replace(random, **changes), data, trainer)
        assert f"from {weights} on" in caplog.messages[0]
        assert "meant for pretrained" not in caplog.text


def test_epochs_are_counted_alike_in_the_progress_bar_and_in_the_log() -> None:
    """Lightning counts from 0 to one less than their number."""
    bar = EpochBar()
    bar._trainer = SimpleNamespace(max_epochs=6)  # type: ignore[assignment]
    assert bar._get_train_description(3).strip() == "epoch 4/6"


def test_without_a_progress_bar_a_line_a_minute_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr("twincar.training.callbacks.perf_counter", lambda: now)
    trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=0, max_epochs=6, num_training_batches=40)
    heartbeat, module = Heartbeat(), cast("LightningModule", None)
    heartbeat.on_train_epoch_start(trainer, module)
    with caplog.at_level("INFO", "twincar"):
        for step in range(40):  # ten seconds each
            now += 10
            heartbeat.on_train_batch_end(trainer, module, None, None, step)
    assert caplog.messages == [f"epoch 1/6  step {step} of 40" for step in (1, 7, 13, 19, 25, 31, 37)]


def test_classes_that_validation_lacks_are_told_and_recorded(
    small_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = PreparedData.open(small_data)
    config = small_config(small_data)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    announce(config, data, trainer)
    assert "no validation photo" not in caplog.text
    assert _provenance(config, data)["not_validated"] == []
    kept = [photo for photo in data.annotations if photo.split != "val" or photo.label in (0, 3)]
    data = replace(data, annotations=tuple(kept))
    announce(config, data, trainer)
    names = f"'{data.classes[1]}', '{data.classes[2]}'"
    assert f"2 of the 4 classes have no validation photos ({names}): the best epoch is chosen" in caplog.text
    assert _provenance(config, data)["not_validated"] == [data.classes[1], data.classes[2]]


def test_a_folder_and_settings_are_enough(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"backbone": BACKBONE, "pretrained": "none", "image_height": 64, "image_width": 64, "workers": 0}
    trained = train(small_data, recipe="lite", epochs=1, limit_batches=1, augment={"flip": 0}, **settings)
    assert trained.run.path == Path("runs") / small_data.name
    config = trained.run.read_config()
    assert (config.data, config.recipe, config.epochs) == (str(small_data.resolve()), "lite", 1)
    assert (config.augment.flip, config.augment.low_quality) == (0, 0.5)  # changed, and of the recipe
    with pytest.raises(UsageError, match="found 'epoch'; did you mean 'epochs'"):
        train(small_data, epoch=1)
    with pytest.raises(UsageError, match=r"Expected a TrainConfig alone.*but found epochs beside it"):
        train(config, epochs=1)


def test_a_finished_run_is_trained_on_in_another(
    small_data: Path, small_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the command that is suggested; other settings and other classes are no obstacle."""
    with caplog.at_level("INFO", "twincar"):
        resume(small_run)
    words = shlex.split(caplog.messages[-1].splitlines()[-1])
    assert words[:2] == ["twincar", "train"]
    assert words[words.index("--pretrained") + 1] == str(small_run / "best.safetensors")
    before, _ = load_model(small_run / "best.safetensors")
    same = small_config(small_data, pretrained=str(small_run / "best.safetensors"), image_width=96, dropout=0.5)
    network = _first_network(same, PreparedData.open(small_data))
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.state_dict().items())
    result = run_command(*words[1:], "--runs", tmp_path, "--epochs", 1, "--limit", 1)
    assert result.returncode == 0, result.stderr
    assert RunFolder.open(tmp_path / "small-longer").read_config().backbone == BACKBONE
    _, spec = load_model(small_run / "best.safetensors")
    other = replace(spec, classes=ClassNames([*spec.classes.names[1:], "Zeta Nova Sedan 2020"]))
    network = build_network(other)
    head = {name: tensor.clone() for name, tensor in network.head.state_dict().items()}
    load_initial(network, other, str(small_run / "best.safetensors"))
    assert torch.equal(
        network.state_dict()["backbone.conv_stem.weight"], before.state_dict()["backbone.conv_stem.weight"]
    )
    assert all(torch.equal(network.head.state_dict()[name], tensor) for name, tensor in head.items())


def test_a_run_is_not_overwritten(small_data: Path, small_run: Path) -> None:
    before = (small_run / "best.safetensors").read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        train(small_config(small_data), small_run)
    assert (small_run / "best.safetensors").read_bytes() == before


def test_a_run_without_a_finished_epoch_says_so_when_its_name_is_taken(small_data: Path, tmp_path: Path) -> None:
    """Whether anything is lost with it is what one asks before it is deleted."""
    (tmp_path / "config.yaml").write_text(small_config(small_data, epochs=1, limit_batches=1).to_yaml())
    with pytest.raises(UsageError) as refused:
        train(small_config(small_data), tmp_path)
    assert str(refused.value) == (
        f"A run is never overwritten, but {tmp_path} exists, although no epoch of it is finished. Resume it (--resume "
        f"{tmp_path}), choose another --name, or delete it."
    )
    assert len(resume(tmp_path).history) == 1


def test_a_run_that_another_process_trains_is_left_to_it(small_data: Path, small_run: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(small_run, tmp_path / "run")))
    run.config.write_text(small_config(small_data, epochs=3).to_yaml())
    with held_elsewhere(run.path) as process:
        before = {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
        with pytest.raises(UsageError, match=f"but process {process.pid} on .* is training it. Wait until it"):
            resume(run.path)
        assert {path: path.read_bytes() for path in before} == before
        assert evaluate(run.path).photos == 12  # reading needs no lock


def test_two_that_begin_a_run_at_once_are_one(small_data: Path, tmp_path: Path) -> None:
    """The second finds an empty folder still, as the first has not written its configuration yet."""
    (tmp_path / "run").mkdir()
    with held_elsewhere(tmp_path / "run"), pytest.raises(UsageError, match="is training it"):
        train(small_config(small_data), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["train.lock"]


def test_a_full_disk_keeps_the_epochs_before(small_data: Path, tmp_path: Path, small_run: Path) -> None:
    """The first epoch fits, the second does not: last.ckpt and the model stay those of the first."""
    shutil.copytree(small_run, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    config = small_config(small_data, epochs=3)
    run.config.write_text(config.to_yaml())
    best, last = run.best.read_bytes(), run.last.read_bytes()
    with files_no_larger_than(300_000), pytest.raises(StorageError, match="unchanged"):
        resume(run.path)
    assert run.last.read_bytes() == last
    assert run.best.read_bytes() == best
    assert len(resume(run.path).history) == 3


def test_a_photo_that_disappears_leaves_a_run_to_resume(small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data, tmp_path / "data")
    data = PreparedData.open(tmp_path / "data")
    lost = data.path(data.split("train")[0])
    aside = lost.with_suffix(".aside")
    lost.rename(aside)
    try:
        with pytest.raises(PhotoError, match="no such file"):
            train(small_config(tmp_path / "data", balanced=False), tmp_path / "run")
    finally:
        aside.rename(lost)
    assert len(resume(tmp_path / "run").history) == 2


def test_a_killed_loader_ends_the_training_and_the_run_goes_on(small_data: Path, tmp_path: Path) -> None:
    """All loaders wait for the next epoch once the first is told; one of them is killed then."""
    settings = ("--recipe", "toycars", "--epochs", "3", "--image-size", "64", "--precision", "fp32", "--workers", "2")
    settings += ("--backbone", BACKBONE)
    begin = ["train", small_data, *settings, "--runs", tmp_path, "--name"]
    assert start(command_line, [*begin, "whole"]).finish()[0] == 0
    process = start(command_line, [*begin, "run"])
    assert any(line.startswith("epoch 1/3") for line in iter(process.told.readline, ""))
    os.kill(loaders_of(process)[0], signal.SIGKILL)
    code, told = process.finish()
    assert code == 1
    assert "Traceback" not in told
    last = told.splitlines()[-1]
    assert last.startswith("twincar: A process that loads photos was killed")
    assert last.endswith(f"resume with --resume {tmp_path / 'run'}.")
    assert start(command_line, ["train", "--resume", tmp_path / "run"]).finish()[0] == 0
    whole, run = (RunFolder.open(tmp_path / name) for name in ("whole", "run"))
    assert without_seconds(run.read_history()) == without_seconds(whole.read_history())
    assert run.best.read_bytes() == whole.best.read_bytes()


def loaders_of(process: Forked) -> list[int]:
    """Its child processes: two that load training photos and two for those of validation."""
    started = [path.read_text().split() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
    children = [int(child) for of_thread in started for child in of_thread]
    assert len(children) == 4
    return children


def test_other_data_than_the_run_was_started_with_is_refused(small_run: Path) -> None:
    run = RunFolder.open(small_run)
    checkpoint = torch.load(run.last, weights_only=True)
    state = next(value for name, value in checkpoint["callbacks"].items() if "Recorder" in name)
    recorder = Recorder(run, load_model(run.best)[1], "another hash")
    with pytest.raises(DataError, match="changed since"):
        recorder.load_state_dict(state)


def test_a_loss_that_is_no_number_is_told(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twincar.training.module.F.cross_entropy", lambda logits, _: logits.sum() * float("nan"))
    with pytest.raises(TwinCarError, match="--learning-rate"):
        train(small_config(small_data, gradient_clip=0), tmp_path / "run")


def test_tensorboard_gets_the_metrics(small_data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(small_config(small_data, epochs=1, limit_batches=1), tmp_path / "run", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"train_loss", "learning_rate", "val_f1_macro", "val_top5"} <= set(events.Tags()["scalars"])


def test_warmup_cosine_by_hand() -> None:
    shares = [warmup_cosine(step, 4, 12) for step in range(13)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4] == 1
    assert shares[8] == pytest.approx(0.5)
    assert shares[12] == pytest.approx(0)


def test_a_run_keeps_the_precision_it_chose(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed, it must not choose another."""
    monkeypatch.setattr("twincar.training.precision.cpu_computes_bf16", lambda: True)
    monkeypatch.setattr("twincar.training.precision.bf16_gain", lambda *_: 2.0)
    run = train(small_config(small_data, precision="auto", epochs=1, limit_batches=1), tmp_path / "run").run
    assert "precision: bf16" in run.config.read_text()


def test_photos_are_kept_decoded_where_asked_for(small_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(small_data, tmp_path / "prepared")
    config = small_config(data, cache=True, epochs=1)
    whole = train(config, tmp_path / "whole")
    assert len(list((data / ".cache").glob("photos-*.bin"))) == 1
    again = train(config, tmp_path / "again")  # from the file that is there now
    assert without_seconds(again.history) == without_seconds(whole.history)

    with pytest.raises(UsageError, match="Narrow them"):
        train(small_config(data, cache=True, augment={"crop_scale": (0.08, 1.0)}), tmp_path / "wide")
    RunFolder.check_free(tmp_path / "wide")  # the same name can be tried again


def test_averaged_weights_forget_the_start() -> None:
    """After n equal steps the average is the weights; the decay grows to its limit only."""
    model = torch.nn.Linear(1, 1, bias=False)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=AveragedWeights(0.99)._kwargs["multi_avg_fn"])
    expected = None
    for step in range(50):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update_parameters(model)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    assert float(average.module.weight.detach()) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]


def test_the_validation_part_is_what_is_measured(small_run: Path) -> None:
    """The best epoch's metrics, worked out again from its saved weights."""
    from twincar.evaluation.evaluate import evaluate

    evaluation = evaluate(small_run, split="val")
    best = best_epoch(RunFolder.open(small_run).read_history())
    before = evaluation.calibration.before  # the history is of the network as it is
    expected = {**evaluation.metrics, "loss": before["nll"], "ece": before["ece"], "brier": before["brier"]}
    for name, value in expected.items():
        assert best[f"val_{name}"] == pytest.approx(value, abs=1e-4), name
    assert np.isfinite(evaluation.macro_f1.low)


def test_photos_grow_in_four_stages() -> None:
    """Shares 0.6, 0.733, 0.867 and 1 of 160×256, each to the nearest 32 pixels: 96, 117.3, 138.7, 160 × 153.6, ..."""
    config = TrainConfig(image_height=160, image_width=256, initial_resolution=0.6, epochs=8)
    sizes = [training_size(config, epoch) for epoch in range(8)]
    assert sizes[::2] == sizes[1::2] == [(96, 160), (128, 192), (128, 224), (160, 256)]
    assert {training_size(TrainConfig(image_height=100, image_width=130), epoch) for epoch in range(25)} == {(100, 130)}
    assert training_size(TrainConfig(image_height=40, image_width=40, initial_resolution=0.1), 0) == (32, 32)
    assert training_size(TrainConfig(image_height=100, image_width=100, initial_resolution=0.5, epochs=1), 0) == (
        64,
        64,
    )


def test_what_the_network_sees_grows_and_is_mixed_as_said(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = CarNet.forward

    def observed(self: CarNet, images: torch.Tensor) -> torch.Tensor:
        seen.append((self.training, tuple(images.shape[2:])))
        return forward(self, images)

    monkeypatch.setattr(CarNet, "forward", observed)
    mixed = []
    call = BatchMixer.__call__

    def listening(self: BatchMixer, images: torch.Tensor, labels: torch.Tensor, *, mix: bool = True):  # type: ignore[no-untyped-def]
        mixed.append(mix)
        return call(self, images, labels, mix=mix)

    monkeypatch.setattr(BatchMixer, "__call__", listening)
    train(small_config(small_data, epochs=4, limit_batches=1, initial_resolution=0.5, mix_until=0.5), tmp_path / "run")
    assert [size for training, size in seen if training] == [(32, 32), (32, 32), (64, 64), (64, 64)]
    assert {size for training, size in seen if not training} == {(64, 64)}
    assert mixed == [True, True, False, False]


def test_the_same_seed_gives_the_same_weights(small_data: Path, tmp_path: Path) -> None:
    """To the bit, on a CPU, whatever the number of loader processes."""
    digests = set()
    for workers in (0, 2):
        run = train(small_config(small_data, epochs=1, workers=workers), tmp_path / f"{workers}").run
        state = load_model(run.best)[0].state_dict()
        digests.add(sha256_of(b"".join(tensor.numpy().tobytes() for tensor in state.values())))
    assert len(digests) == 1


def test_lightning_is_quiet_during_a_training_only() -> None:
    logger, filters = logging.getLogger("lightning.pytorch.utilities.rank_zero"), list(warnings.filters)
    assert logger.isEnabledFor(logging.WARNING)
    with quiet_lightning(), warnings.catch_warnings(record=True) as caught:
        assert not logger.isEnabledFor(logging.WARNING)
        warnings.warn("The 'train_dataloader' does not have many workers", stacklevel=1)
    assert caught == []
    assert logger.isEnabledFor(logging.WARNING)
    assert warnings.filters == filters
