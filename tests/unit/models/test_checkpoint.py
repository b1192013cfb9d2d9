from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from disks import files_no_larger_than
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from small_backbone import BACKBONE
from torchvision import transforms

from twincar.core.errors import CheckpointError, StorageError, TwinCarError, UsageError
from twincar.core.labels import ClassNames, stanford_cars
from twincar.core.preprocess import Preprocessing
from twincar.inference.classifier import Classifier
from twincar.models.checkpoint import build_network, load_model, load_published_model, save_model
from twincar.models.engines.torch_engine import open_network
from twincar.models.network import CarNet
from twincar.models.spec import ModelSpec
from twincar.models.weights import fit_weights, read_state_dict

SPEC = ModelSpec(
    backbone=BACKBONE,
    head="mlp",
    classes=ClassNames(("Audi S5 Coupe 2012", "Audi A5 Coupe 2012", "Ram C/V Cargo Van Minivan 2012")),
    preprocessing=Preprocessing(height=64, width=96, crop=0.9, squash=True),
    framing="car",
    margin=0.05,
    provenance={"recipe": "toycars", "seed": 3},
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, CarNet]:
    torch.manual_seed(0)
    network = build_network(SPEC).eval()
    save_model(tmp_path / "model.safetensors", network, SPEC)
    return tmp_path / "model.safetensors", network


def test_what_was_saved_is_loaded(saved: tuple[Path, CarNet]) -> None:
    path, network = saved
    loaded, spec = load_model(path)
    assert spec == SPEC
    images = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network(images))


def test_the_header_is_plain_json_with_the_taxonomy(saved: tuple[Path, CarNet]) -> None:
    with safe_open(saved[0], framework="pt") as file:
        header = json.loads(file.metadata()["twincar"])
    assert header["classes"][2] == {
        "index": 2, "name": "Ram C/V Cargo Van Minivan 2012", "make": "Ram", "model": "C/V Cargo Van",
        "body": "Minivan", "year": 2012,
    }  # fmt: skip


def test_a_full_disk_leaves_the_old_model(saved: tuple[Path, CarNet]) -> None:
    path, network = saved
    before = path.read_bytes()
    with files_no_larger_than(100_000), pytest.raises(StorageError, match="unchanged"):
        save_model(path, network, SPEC)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def rewrite(path: Path, **changes: object) -> None:
    """Save the model with another header."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["twincar"])
    save_file(state, path, metadata={"twincar": json.dumps({**header, **changes})})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format"),
        ({"backbone": "tf_efficientnetv2_b1"}, "another architecture"),
        ({"head": "linear"}, "another architecture"),
        ({"classes": [{"name": "A"}]}, "damaged"),
        ({"classes": "abc"}, "damaged"),
        ({"preprocessing": {"height": 64}}, "damaged"),
        ({"framing": "horse"}, "damaged"),
        ({"margin": -0.1}, "damaged"),
        ({"margin": "wide"}, "damaged"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    saved: tuple[Path, CarNet], changes: dict[str, object], message: str
) -> None:
    rewrite(saved[0], **changes)
    with pytest.raises(TwinCarError, match=message):
        load_model(saved[0])


def test_more_classes_than_weights_are_refused(saved: tuple[Path, CarNet]) -> None:
    rewrite(saved[0], classes=ClassNames(("A 2000", "B 2000", "C 2000", "D 2000")).to_rows())
    with pytest.raises(CheckpointError, match="shape"):
        load_model(saved[0])


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    network = build_network(SPEC)
    with torch.no_grad():
        network.head[0].weight[0, 0] = float("nan")  # type: ignore[index]
    save_model(tmp_path / "m.safetensors", network, SPEC)
    with pytest.raises(CheckpointError, match="finite"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_file_is_refused(saved: tuple[Path, CarNet], share: float) -> None:
    data = saved[0].read_bytes()
    saved[0].write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(saved[0])


class Malicious:
    """What a pickle can do when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    for name, write in {"torch.pth": torch.save, "plain.pth": lambda o, p: p.write_bytes(pickle.dumps(o))}.items():
        write({"weights": Malicious(proof)}, tmp_path / name)
        with pytest.raises(CheckpointError, match="not opened"):
            open_network(tmp_path / name)
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="Expected"):
        open_network(tmp_path / "w.pth")


def test_weights_that_unpack_to_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    """A file of kilobytes would fill the memory; torch itself never compresses."""
    torch.save({"a": torch.zeros(10_000_000, dtype=torch.uint8)}, tmp_path / "plain.pth")
    packed = zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, packed:
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    assert (tmp_path / "small.pth").stat().st_size < 100_000
    assert read_state_dict(tmp_path / "plain.pth")[0]["a"].shape == (10_000_000,)
    with pytest.raises(CheckpointError, match="it is compressed"):
        read_state_dict(tmp_path / "small.pth")


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.to_sparse(),
        lambda weights: weights.to("meta"),
        lambda weights: weights.to(torch.complex64),
        lambda weights: torch.quantize_per_tensor(weights, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "quantised"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_of_another_kind_are_refused(tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    layer = torch.nn.Linear(2, 3)
    torch.save({**layer.state_dict(), "weight": change(layer.weight.detach())}, tmp_path / "odd.pth")
    before = layer.weight.clone()
    with pytest.raises(CheckpointError, match=r"plain real numbers in odd\.pth, but weight holds"):
        fit_weights(layer, read_state_dict(tmp_path / "odd.pth")[0], what="a layer", source="odd.pth")
    assert torch.equal(layer.weight, before)


def test_bare_weights_are_no_model(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in build_network(SPEC).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="no TwinCar header"):
        open_network(tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="there is none"):
        open_network(tmp_path / "none.safetensors")


@pytest.mark.parametrize("wrapped", ["plain", "state_dict", "module.", "mlp"])
def test_the_published_checkpoint_loads(tmp_path: Path, wrapped: str) -> None:
    """The same logits as timm with torchvision's transforms by hand, as the published instructions have it."""
    torch.manual_seed(0)
    model = timm.create_model("efficientnetv2_rw_s", num_classes=196).eval()
    if wrapped == "mlp":
        layers = [torch.nn.Linear(1792, 512), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(512, 196)]
        model.classifier = torch.nn.Sequential(*layers).eval()
    state = model.state_dict()
    content = {"plain": state, "mlp": state, "state_dict": {"state_dict": state, "epoch": 3}}.get(wrapped)
    path = tmp_path / "efficientnetv2_best_model.pth"
    torch.save(content or {f"module.{name}": tensor for name, tensor in state.items()}, path)

    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 530, 3), np.uint8))
    by_hand = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    with torch.no_grad():
        expected = model(by_hand(photo)[None]).numpy()

    classifier = Classifier.load(path)
    assert classifier.class_names == stanford_cars()
    ours = classifier.engine.logits(classifier.spec.preprocessing(photo)[None])
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-5)  # these random weights give logits of up to 30


def test_the_published_checkpoint_with_other_classes_or_backbone_is_refused(tmp_path: Path) -> None:
    model = timm.create_model("tf_efficientnetv2_b0", num_classes=5)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    classes = ClassNames(("A", "B", "C", "D", "E"))
    assert load_published_model(tmp_path / "w.pth", classes, "tf_efficientnetv2_b0")[1].head == "linear"
    with pytest.raises(CheckpointError, match="another architecture"):
        load_published_model(tmp_path / "w.pth", classes, "efficientnetv2_rw_s")
    with pytest.raises(CheckpointError, match="shape"):
        load_published_model(tmp_path / "w.pth", ClassNames(("A", "B")), "tf_efficientnetv2_b0")
