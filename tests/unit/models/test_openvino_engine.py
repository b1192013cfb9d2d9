"""What OpenVINO opens: its own XML with the weights beside it, or an ONNX file that names no other, and no third."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from colour_model import write_model

from tests.robustness.fuzz_models import small_onnx, spec_text
from tests.robustness.fuzz_targets import photos
from twincar.core.errors import CheckpointError
from twincar.inference.classifier import Classifier
from twincar.models.engines.openvino_engine import save_openvino


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model of ours."""
    save_openvino(small_onnx(spec_text()), tmp_path / "model.xml", half=False)
    (tmp_path / "twincar.json").write_text(spec_text())
    return tmp_path


def test_a_folder_answers_as_the_onnx_file_it_was_made_of(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(small_onnx(spec_text()))
    expected = Classifier.load(folder / "model.onnx", engine="onnxruntime").predict(photos()[0], top_k=3)
    for path in (folder, folder / "model.onnx"):
        answer = Classifier.load(path, engine="openvino").predict(photos()[0], top_k=3)
        assert [car.name for car in answer.topk] == [car.name for car in expected.topk]
        assert answer.top1.probability == pytest.approx(expected.top1.probability, abs=1e-5)


def test_threads_share_an_engine(tmp_path: Path) -> None:
    """OpenVINO itself refuses: 'Infer Request is busy'. A server is taught in one thread while another predicts."""
    engine = Classifier.load(write_model(tmp_path / "colours.onnx"), engine="openvino").engine
    images = np.zeros((16, 32, 32, 3), np.uint8)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine.logits_and_features, [images] * 100))
    assert len(found) == 100


@pytest.mark.parametrize("external", ["", "beside.bin"])
def test_a_model_that_is_no_xml_is_not_opened(folder: Path, external: str) -> None:
    """OpenVINO would tell the format by the content, and take the weights from wherever an ONNX file says they lie."""
    (folder / "beside.bin").write_bytes(np.ones((3, 3), np.float32).tobytes())
    (folder / "model.xml").write_bytes(small_onnx(spec_text(), external=external))
    with pytest.raises(CheckpointError, match=r"Expected OpenVINO's XML in .*model\.xml, but it begins with"):
        Classifier.load(folder)


def test_the_weights_are_the_file_beside_the_model(folder: Path) -> None:
    (folder / "other.bin").write_bytes((folder / "model.bin").read_bytes())
    (folder / "model.bin").unlink()
    text = (folder / "model.xml").read_text()
    (folder / "model.xml").write_text(
        text.replace("<rt_info>", '<rt_info><__weights_path value="other.bin"/>', 1).replace(
            "</net>", '<meta_data><weights_path value="other.bin"/></meta_data></net>'
        )
    )
    with pytest.raises(CheckpointError, match="OpenVINO cannot read it"):
        Classifier.load(folder)


def test_an_operation_from_outside_of_openvino_is_not_looked_for(folder: Path) -> None:
    text = (folder / "model.xml").read_text()
    assert 'type="AvgPool" version="opset' in text
    (folder / "model.xml").write_text(text.replace('type="AvgPool"', 'type="./evil.so"', 1))
    with pytest.raises(CheckpointError, match="OpenVINO cannot read it"):
        Classifier.load(folder)
