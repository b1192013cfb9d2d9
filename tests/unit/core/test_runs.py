"""The folder of a training run: it has one writer, is never overwritten, and says how it ended."""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

import pytest
from disks import held_elsewhere

from twincar.core.config import TrainConfig
from twincar.core.errors import DataError, UsageError
from twincar.core.files import write_csv
from twincar.core.runs import Epoch, RunFolder, ending, is_finished


def test_a_run_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").write_bytes(b"precious")
    with pytest.raises(UsageError, match="never overwritten"):
        RunFolder.create(tmp_path / "run")
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == b"precious"
    assert RunFolder.create(tmp_path / "new").path.is_dir()


def test_opening_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        RunFolder.open(tmp_path / "none")


def test_history_reads_back_what_was_written(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    history = [{"epoch": 1.0, "val_f1_macro": 1 / 3}, {"epoch": 2.0, "val_f1_macro": 0.1}]
    write_csv(run.metrics, history)
    assert run.read_history() == history


@pytest.mark.parametrize("text", ["", "epoch\n1\n", "epoch,val_f1_macro\n1,many\n", "epoch,val_f1_macro\n1\n"])
def test_a_damaged_history_is_told(tmp_path: Path, text: str) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.metrics.write_text(text)
    with pytest.raises(DataError, match="Expected"):
        run.read_history()


def test_a_run_has_one_writer_until_that_is_killed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with held_elsewhere(tmp_path) as process:
        holder = f"process {process.pid} on {platform.node()}"
        with pytest.raises(UsageError, match=f"but {holder} is training it"), run.locked():
            pass
        process.kill()
        process.wait()
        with run.locked():  # though the one it has forked is still there
            assert (tmp_path / "train.lock").read_text() == f"process {os.getpid()} on {platform.node()}"
    with run.locked():
        pass
    run.trained_on.touch()
    RunFolder.check_free(tmp_path)  # what was stopped before it began is no run


def test_without_locks_training_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", lockf)
    with RunFolder(tmp_path).locked():
        pass
    assert "cannot be locked (No locks available): make sure that no other process trains it." in caplog.text


def history_of(*scores: float) -> list[Epoch]:
    """The history of a run with these validation scores."""
    return [{"epoch": epoch, "val_f1_macro": score} for epoch, score in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "finished", "sentence"),
    [
        ((0.1, 0.5, 0.4), False, "It is not finished: 3 of at most 4 epochs are done."),
        ((0.5, 0.4, 0.5), True, "It stopped early, after 3 of at most 4 epochs: the 2 after the best were no better."),
        ((0.1, 0.5, 0.4, 0.5), True, ""),  # its patience ends with its last epoch
        ((0.1, 0.2, 0.3, 0.4), True, ""),
    ],
)
def test_a_run_ends_after_its_patience_or_its_last_epoch(
    scores: tuple[float, ...], finished: bool, sentence: str
) -> None:
    config = TrainConfig(epochs=4, patience=2)
    assert is_finished(config, history_of(*scores)) == finished
    assert ending(config, history_of(*scores)) == sentence


def test_a_patience_of_one_epoch_is_said_in_the_singular() -> None:
    sentence = ending(TrainConfig(epochs=9, patience=1), history_of(0.5, 0.4))
    assert sentence == "It stopped early, after 2 of at most 9 epochs: the one after the best was no better."
