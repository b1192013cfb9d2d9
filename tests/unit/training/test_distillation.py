"""Knowledge distillation: its loss by hand, its teachers by their own predictions, and a run that is resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_config

from twincar.core.errors import UsageError
from twincar.core.labels import ClassNames
from twincar.core.runs import RunFolder
from twincar.deploy.export import export
from twincar.models.checkpoint import load_model
from twincar.models.engines.open import open_engine
from twincar.training.distillation import Teachers, distillation_loss, teacher_hashes
from twincar.training.module import TrainingModule
from twincar.training.train import resume, train


def test_the_loss_by_hand() -> None:
    """Two classes, T = 2: the student's softened probabilities are 0.8 and 0.2, the teacher's 0.5 each."""
    logits = torch.log(torch.tensor([[16.0, 1.0]]))
    loss = distillation_loss(logits, torch.tensor([[0.5, 0.5]]), temperature=2.0)
    assert loss.item() == pytest.approx(4 * -(0.5 * np.log(0.8) + 0.5 * np.log(0.2)), rel=1e-6)


def test_gradients_are_those_of_the_divergence() -> None:
    """KL divergence times T², as torch computes it, has the same gradient."""
    torch.manual_seed(0)
    logits, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5).div(3).softmax(1)
    distillation_loss(logits, teacher, 3.0).backward()
    ours, logits.grad = logits.grad, None
    divergence = torch.nn.functional.kl_div((logits / 3).log_softmax(1), teacher, reduction="batchmean")
    (9 * divergence).backward()
    torch.testing.assert_close(ours, logits.grad)


def test_teachers_of_every_kind_are_averaged_in_the_order_of_the_classes(small_run: Path, tmp_path: Path) -> None:
    exported = export(small_run, out=tmp_path / "model.onnx").path
    engine, spec = open_engine(small_run)
    photos = np.random.default_rng(0).integers(0, 256, (3, *_size(spec), 3), np.uint8)
    images = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
    expected = torch.from_numpy(engine.logits(photos) / 2).softmax(1)
    reverse = ClassNames(tuple(reversed(spec.classes.names)))
    taught = Teachers([str(small_run), str(exported)], reverse).probabilities(images, temperature=2.0)
    torch.testing.assert_close(taught, expected.flip(1), atol=1e-5, rtol=1e-4)


def test_a_teacher_sees_photos_of_its_own_size(small_run: Path) -> None:
    _, spec = open_engine(small_run)
    larger = torch.rand(2, 3, 2 * spec.preprocessing.height, 2 * spec.preprocessing.width) * 255
    probabilities = Teachers([str(small_run)], spec.classes).probabilities(larger, 1.0)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


def test_a_teacher_must_know_the_classes(small_run: Path) -> None:
    with pytest.raises(UsageError, match=r"does not know 1 of them .*Lada Niva"):
        Teachers([str(small_run)], ClassNames(("Lada Niva SUV 1977",)))


def test_a_student_resumes_exactly(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    config = small_config(small_data, teachers=[str(small_run)], distill_weight=1.0, epochs=2, seed=3)
    whole = train(config, tmp_path / "whole").run
    train(replace(config, epochs=1), tmp_path / "cut")
    cut = RunFolder(tmp_path / "cut")
    cut.config.write_text(whole.config.read_text())
    resume(cut.path)
    assert load_model(cut.best)[1].provenance["teachers"] == teacher_hashes([str(small_run)])
    first, second = (load_model(run.best)[0].state_dict() for run in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_labels_and_teachers_share_the_loss(small_run: Path, small_data: Path) -> None:
    config = small_config(small_data, teachers=[str(small_run)], distill_weight=0.25, distill_temperature=3.0)
    network, spec = load_model(RunFolder(small_run).best)
    module = TrainingModule(network, config, spec.classes, steps_per_epoch=1, batch_size=4)
    images, labels = torch.rand(4, 3, 64, 64) * 255, torch.eye(len(spec.classes))[:4]
    logits = torch.randn(4, len(spec.classes))
    with torch.no_grad():
        taught = (network(images) / 3).softmax(1)
    by_labels = -(labels * logits.log_softmax(1)).sum(1).mean()
    by_teacher = -9 * (taught * (logits / 3).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module._loss(logits, labels, images), 0.75 * by_labels + 0.25 * by_teacher)


def test_another_teacher_than_at_the_start_is_refused(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    shutil.copy(RunFolder(small_run).best, teacher)
    config = small_config(small_data, teachers=[str(teacher)], epochs=1)
    run = train(config, tmp_path / "run").run
    run.config.write_text(replace(config, epochs=2).to_yaml())
    shutil.copy(run.best, teacher)
    with pytest.raises(UsageError, match=r"teacher\.safetensors has changed"):
        resume(run.path)


def _size(spec) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    return spec.preprocessing.height, spec.preprocessing.width
