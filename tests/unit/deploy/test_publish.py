"""A run on the stand-in hub: what is published, how it is loaded by us (with and without torch) and by timm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import draw_car
from hub_server import COMMIT, HubClient, HubServer
from huggingface_hub import ModelCard as HubCard
from small_backbone import BACKBONE
from timm.data import create_transform, resolve_data_config

import twincar.deploy.published_files
from twincar.cli import app
from twincar.core.errors import HubError, UsageError
from twincar.core.files import read_json, write_text
from twincar.core.labels import stanford_cars
from twincar.core.runs import RunFolder
from twincar.deploy.publish import push
from twincar.deploy.pull import pull
from twincar.inference.classifier import Classifier
from twincar.models.bundled import MODEL
from twincar.models.checkpoint import build_network, load_model, save_model
from twincar.models.engines.onnxruntime_engine import read_onnx_spec
from twincar.models.engines.torch_engine import open_network
from twincar.models.locate import PUBLISHED_FILE

REPO = "someone/cars"
PHOTO = draw_car(1, 77)


@pytest.fixture(scope="module")
def linear_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run, evaluated, with a single layer as its classifier."""
    path = tmp_path_factory.mktemp("linear") / "run"
    shutil.copytree(small_run, path, ignore=shutil.ignore_patterns("reports"))
    run = RunFolder(path)
    network, spec = open_network(path)
    torch.manual_seed(0)
    linear = build_network(replace(spec, head="linear"))
    linear.backbone.load_state_dict(network.backbone.state_dict())
    save_model(run.best, linear, replace(spec, head="linear"))
    config = replace(run.read_config(), head="linear")
    write_text(run.config, config.to_yaml())
    return path


@pytest.fixture(scope="module")
def published(linear_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """The hub, after that run was pushed."""
    with pytest.MonkeyPatch.context() as patch, HubServer(None, kind="models", token="secret") as hub:
        HubClient(patch, tmp_path_factory.mktemp("home")).use(hub, token="secret")
        assert push(linear_run, REPO).commit == hub.head
        hub.token = ""
        yield hub


@pytest.fixture
def client(hub_client: HubClient, published: HubServer) -> HubClient:
    hub_client.use(published)
    return hub_client


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds, and these tests are about the rest."""
    monkeypatch.setattr(twincar.deploy.published_files, "export", lambda _, out, **__: out.write_bytes(b"a model"))


def test_all_of_it_is_published(published: HubServer) -> None:
    assert set(published.files) == {
        ".gitattributes", "README.md", "best.safetensors", "calibration.json", "classes.json", "config.json",
        "config.yaml", "evaluation.json", "metrics.csv", "model.onnx", "model.safetensors", "most_confused.png",
        "reliability.png",
    }  # fmt: skip
    rows = json.loads(published.files["classes.json"])
    assert (rows[0]["name"], rows[0]["make"], rows[0]["year"]) == ("Aurora Falcon Coupe 2012", "Aurora", 2012)
    assert json.loads(published.files["calibration.json"])["photos"] == 12
    assert len(published.messages) == 1


def test_no_path_of_this_computer_is_published(published: HubServer, linear_run: Path, small_data: Path) -> None:
    for name, content in published.files.items():
        for path in (linear_run, small_data, small_data.parent, Path.home()):
            assert str(path).encode() not in content, name
    assert b"data: prepared\n" in published.files["config.yaml"]
    assert rb"\"source\": \"source\"" in published.files["best.safetensors"][:20_000]


def test_a_pushed_model_answers_as_the_run_does(client: HubClient, published: HubServer, linear_run: Path) -> None:
    expected = Classifier.load(linear_run).predict(PHOTO)
    for name in (REPO, f"{REPO}@{published.head}", f"hub:{REPO}"):
        classifier = twincar.load(name)
        assert classifier.engine.name == "onnxruntime"
        found = classifier.predict(PHOTO)
        assert found.top1.name == expected.top1.name
        assert found.top1.probability == pytest.approx(expected.top1.probability, abs=1e-5)
        assert (found.status, found.answer and found.answer.level) == (
            expected.status,
            expected.answer and expected.answer.level,
        )
    assert Classifier.load(REPO, engine="torch").engine.name == "torch"
    assert {name for name, _ in published.fetched} == {"model.onnx", "best.safetensors"}
    client.set(HF_HUB_OFFLINE=True)
    assert twincar.load(REPO).predict(PHOTO).topk == found.topk


WITHOUT_TORCH = """
import sys
for name in ("torch", "timm", "pandas", "scipy", "sklearn", "matplotlib", "safetensors", "jinja2"):
    sys.modules[name] = None
import twincar
from twincar.cli import main
repository, commit, photo = sys.argv[1:]
for arguments in (["pull", repository, "--json"], ["predict", "-m", repository, photo, "--json"]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as stop:
        assert not stop.code
print(twincar.load(repository, revision=commit).predict(photo).top1.probability)
"""


def test_it_is_loaded_from_the_hub_without_torch(published: HubServer, linear_run: Path, tmp_path: Path) -> None:
    """In a process in which nothing of the training extra can be imported, by Python and by the command line."""
    PHOTO.save(tmp_path / "car.png")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ours = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": published.url, "HF_HUB_DISABLE_XET": "1"}
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, REPO, published.head, str(tmp_path / "car.png")],
        env={**kept, **ours},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    pulled, end = json.JSONDecoder().raw_decode(process.stdout)
    answer, probability = map(json.loads, process.stdout[end:].split("\n")[1:3])
    expected = Classifier.load(linear_run).predict(PHOTO)
    assert probability == pytest.approx(expected.top1.probability, abs=1e-5)
    assert (answer["topk"][0]["class_name"], answer["status"]) == (expected.top1.name, expected.status)
    assert (pulled["commit"], pulled["classes"], pulled["backbone"]) == (published.head, 4, BACKBONE)
    assert process.stderr == ""


@pytest.mark.usefixtures("client")
def test_timm_loads_it_and_gives_the_same_logits(linear_run: Path) -> None:
    """Through timm's own preprocessing too, from the photo on."""
    model = timm.create_model(f"hf_hub:{REPO}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    photos = [draw_car(number, 80 + number, size) for number, size in enumerate([(96, 64), (200, 130), (64, 100)])]
    with torch.no_grad():
        theirs = model(torch.stack([transform(photo) for photo in photos])).numpy()
    classifier = Classifier.load(linear_run)
    ours = classifier.engine.logits(np.stack([classifier.spec.preprocessing(photo) for photo in photos]))
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert np.ptp(ours) > 0.1
    assert tuple(model.pretrained_cfg["label_names"]) == classifier.class_names


@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.usefixtures("no_export")
def test_timm_is_told_the_preprocessing_of_oblong_inputs(linear_run: Path, tmp_path: Path, squash: bool) -> None:
    run = tmp_path / "run"
    shutil.copytree(linear_run, run)
    network, spec = open_network(run)
    spec = replace(spec, preprocessing=replace(spec.preprocessing, height=48, width=80, crop=0.8, squash=squash))
    save_model(run / "best.safetensors", network, spec)
    push(run, REPO, out=tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    photo = draw_car(2, 3, (300, 170))
    theirs = (transform(photo) * model_std(model) + model_mean(model)).permute(1, 2, 0).numpy() * 255
    assert theirs.shape == (48, 80, 3)
    assert abs(theirs - spec.preprocessing(photo)).mean() < (1e-3 if squash else 1.0)


@pytest.mark.usefixtures("no_export")
def test_timm_builds_a_backbone_that_has_a_name_here_only(linear_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(linear_run, run)
    network, spec = open_network(run)
    spec = replace(spec, backbone="tf_efficientnetv2_b0_half")
    network = build_network(spec).eval()
    save_model(run / "best.safetensors", network, spec)
    push(run, REPO, out=tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    photo = torch.randint(0, 256, (1, 3, 64, 96))
    with torch.no_grad():
        theirs = model((photo / 255 - model_mean(model)) / model_std(model))
        torch.testing.assert_close(theirs, network(photo))
    full = timm.create_model("tf_efficientnetv2_b0", num_classes=len(spec.classes))
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in full.parameters()) / 4


def model_mean(model: torch.nn.Module) -> torch.Tensor:
    return torch.tensor(model.pretrained_cfg["mean"]).view(3, 1, 1)  # type: ignore[index]


def model_std(model: torch.nn.Module) -> torch.Tensor:
    return torch.tensor(model.pretrained_cfg["std"]).view(3, 1, 1)  # type: ignore[index]


def test_the_card_tells_the_hub_what_was_measured(published: HubServer, linear_run: Path) -> None:
    measured = read_json(linear_run / "reports" / "test" / "metrics.json")
    card = HubCard(published.files["README.md"].decode())
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["accuracy"].metric_value == pytest.approx(measured["accuracy"]["value"], abs=1e-4)
    assert results["f1"].metric_value == pytest.approx(measured["macro_f1"]["value"], abs=1e-4)
    assert results["accuracy"].dataset_split == "test"
    assert (card.data.library_name, card.data.pipeline_tag) == ("timm", "image-classification")
    assert card.data.license is None
    low, high = measured["accuracy"]["low"], measured["accuracy"]["high"]
    assert f"({low:.3f} to {high:.3f})" in card.text
    assert f'twincar.load("{REPO}")' in card.text
    assert f'timm.create_model("hf_hub:{REPO}", pretrained=True)' in card.text
    assert "not named by the publisher" in card.text
    for picture in ("reliability.png", "most_confused.png"):
        assert f"]({picture})" in card.text


def test_pull_tells_what_it_is_and_gives_a_run_to_evaluate(
    client: HubClient, published: HubServer, linear_run: Path
) -> None:
    pulled = pull(REPO)
    assert (pulled.commit, pulled.model.name, pulled.folder.name) == (published.head, "model.onnx", published.head)
    assert set(pulled.files) == set(published.files) - {".gitattributes"}
    expected, found = load_model(linear_run / "best.safetensors"), open_network(pulled.folder)
    assert found[1].classes == expected[1].classes
    for name, tensor in expected[0].state_dict().items():
        assert torch.equal(found[0].state_dict()[name], tensor)
    assert RunFolder.open(pulled.folder).read_history()
    assert str(client.cache) in str(pulled.folder)


@pytest.mark.usefixtures("no_export")
def test_pushed_again_the_repository_is_as_the_run_is(hub_client: HubClient, small_run: Path, tmp_path: Path) -> None:
    """A classifier of two layers, which timm cannot load: what timm would read goes, what is not ours stays."""
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    files = {"config.json": b"{}", "model.safetensors": b"old", "notes.md": b"mine"}
    with HubServer(files, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        pushed = push(run, REPO)
        assert (pushed.commit, pushed.loads_in_timm) == (hub.head, False)
        assert hub.files.keys() & files.keys() == {"notes.md"}
        card = HubCard(hub.files["README.md"].decode())
        assert card.data.library_name == "twincar"
        assert "`timm.create_model` cannot load it" in card.text
        assert "hf_hub" not in card.text


@pytest.mark.usefixtures("no_export")
def test_it_is_evaluated_if_that_was_not_done_with_these_weights(
    linear_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(linear_run, run)
    evaluated = []
    monkeypatch.setattr(twincar.deploy.published_files, "evaluate", lambda *_, split, **__: evaluated.append(split))
    push(run, REPO, out=tmp_path / "first")
    assert evaluated == []
    later = (run / "best.safetensors").stat().st_mtime + 60
    os.utime(run / "reports" / "test" / "metrics.json", (later - 120, later - 120))
    push(run, REPO, license="cc-by-4.0", out=tmp_path / "second")
    assert evaluated == ["test"]
    assert open_network(tmp_path / "second")[1].license == "cc-by-4.0"
    assert HubCard((tmp_path / "second" / "README.md").read_text()).data.license == "cc-by-4.0"


def test_what_cannot_be_published_is_told_before_any_work(
    hub_client: HubClient, linear_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twincar.deploy.published_files, "open_network", None)
    with HubServer(None, kind="models", token="secret") as hub:
        hub_client.use(hub, token="expired")
        with pytest.raises(HubError, match="Expected a valid token"):
            push(linear_run, REPO)
    with pytest.raises(UsageError, match="a model is published on the main branch"):
        push(linear_run, f"{REPO}@v1")
    with pytest.raises(UsageError, match="Expected owner/name or"):
        push(linear_run, "cars")
    with pytest.raises(UsageError, match="Expected a new folder"):
        push(linear_run, REPO, out=tmp_path)
    with pytest.raises(UsageError, match="but there is none"):
        push(tmp_path / "gone", REPO, out=tmp_path / "out")


def test_a_folder_that_could_not_be_finished_is_not_there(
    linear_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise HubError("broken")

    monkeypatch.setattr(twincar.deploy.published_files, "export", broken)
    with pytest.raises(HubError, match="broken"):
        push(linear_run, REPO, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_repository_without_a_model_of_ours_is_told(hub_client: HubClient) -> None:
    with HubServer({"model.safetensors": b"another's"}, kind="models") as hub:
        hub_client.use(hub)
        for load in (twincar.load, pull):
            with pytest.raises(HubError, match="but it holds none"):
                load(REPO)


def test_the_published_weights_load_by_name(hub_client: HubClient, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("efficientnetv2_rw_s", num_classes=196).eval()
    torch.save(model.state_dict(), tmp_path / PUBLISHED_FILE)
    name = "kikogazda/Efficient_NetV2_Edition"
    with HubServer({PUBLISHED_FILE: (tmp_path / PUBLISHED_FILE).read_bytes()}, kind="models", repo=name) as hub:
        hub_client.use(hub)
        classifier = twincar.load(name)
        assert classifier.class_names == stanford_cars()
        assert classifier.spec.backbone == "efficientnetv2_rw_s"
        assert torch.equal(classifier.engine.network.backbone.conv_stem.weight, model.conv_stem.weight)  # type: ignore[attr-defined]
        pulled = pull(name)
        assert (pulled.commit, pulled.model.name, pulled.spec) == (COMMIT, PUBLISHED_FILE, None)


@pytest.mark.usefixtures("client", "no_export")
def test_push_and_pull_on_the_command_line(linear_run: Path, published: HubServer, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    runner = CliRunner()
    out = tmp_path / "out"
    result = runner.invoke(app, ["push", str(linear_run), REPO, "--out", str(out), "--license", "cc-by-4.0"])
    assert result.exit_code == 0, result.output
    assert f"Written, not published: {out} (12 files" in result.output
    assert HubCard((out / "README.md").read_text()).data.license == "cc-by-4.0"
    told = runner.invoke(app, ["pull", REPO]).output
    assert f"{REPO} at {published.head}: {BACKBONE}, 4 classes, 64×64 pixels" in told
    assert f"twincar predict --model {REPO}@{published.head} PHOTO..." in told


@pytest.fixture(scope="module")
def exported(published: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported model of that run, as a file of its own."""
    path = tmp_path_factory.mktemp("exported") / "cars.onnx"
    path.write_bytes(published.files["model.onnx"])
    return path


def test_an_exported_model_is_pushed_with_what_its_header_holds(
    exported: Path, hub_client: HubClient, linear_run: Path
) -> None:
    """A repository that held a run then holds the exported model only: no weights, settings and results of before."""
    before = {"best.safetensors": b"old", "config.yaml": b"old", "evaluation.json": b"{}", "notes.md": b"mine"}
    with HubServer(before, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        pushed = push(exported, REPO)
        assert (pushed.commit, pushed.accuracy, pushed.split, pushed.loads_in_timm) == (hub.head, None, None, False)
        assert set(hub.files) - {".gitattributes"} == {
            *("README.md", "calibration.json", "classes.json", "model.onnx"),
            "notes.md",
        }
        assert hub.messages == [f"A {BACKBONE} of 4 classes"]
        found = twincar.load(REPO).predict(PHOTO)
    expected = Classifier.load(linear_run).predict(PHOTO)
    assert (found.top1.name, found.status) == (expected.top1.name, expected.status)
    assert found.top1.probability == pytest.approx(expected.top1.probability, abs=1e-5)


def test_the_card_of_an_exported_model_says_what_is_not_known(exported: Path, tmp_path: Path) -> None:
    push(exported, REPO, out=tmp_path / "out")
    card = HubCard((tmp_path / "out" / "README.md").read_text())
    assert card.data.eval_results is None
    assert (card.data.license, card.data.library_name) == (None, "twincar")
    assert "onnx" in card.data.tags
    provenance = read_onnx_spec(exported).provenance
    assert f"accuracy {provenance['validation']['val_acc']:.3f}, macro-F1" in card.text
    assert f"| epoch | {provenance['epoch']} |" in card.text
    for unknown in (
        "Not known: this model was not evaluated on test photos",
        "How many photos it was trained on is not known. Calibrated on 12 photos.",
        "The other settings, the initial weights and the course of the training are not known.",
        "not named by the publisher",
    ):
        assert unknown in card.text
    for file in ("config.yaml", "metrics.csv", "reliability.png", "best.safetensors"):
        assert file not in card.text


def test_the_bundled_model_is_pushed_under_its_own_licence(tmp_path: Path) -> None:
    pushed = push(None, REPO, out=tmp_path / "out")
    assert set(pushed.files) == {"README.md", "calibration.json", "classes.json", "model.onnx"}
    spec = read_onnx_spec(MODEL)
    assert read_onnx_spec(tmp_path / "out" / "model.onnx") == spec
    card = HubCard((tmp_path / "out" / "README.md").read_text())
    assert card.data.license == "cc-by-nc-4.0"
    assert spec.license_notice.splitlines()[0] in card.text
    with pytest.raises(UsageError, match=r"the licence in the header of cars196, but found mit"):
        push(None, REPO, license="mit", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_licence_is_written_into_a_header_without_one(exported: Path, tmp_path: Path) -> None:
    push(exported, REPO, license="cc-by-4.0", out=tmp_path / "out")
    spec = read_onnx_spec(tmp_path / "out" / "model.onnx")
    assert spec == replace(read_onnx_spec(exported), license="cc-by-4.0")
    assert HubCard((tmp_path / "out" / "README.md").read_text()).data.license == "cc-by-4.0"
    copied = Classifier.load(tmp_path / "out" / "model.onnx").predict(PHOTO)
    assert copied.topk == Classifier.load(exported).predict(PHOTO).topk


def test_weights_without_their_run_are_pushed_for_torch_and_timm(linear_run: Path, tmp_path: Path) -> None:
    pushed = push(linear_run / "best.safetensors", REPO, out=tmp_path / "out")
    assert set(pushed.files) == {
        *("README.md", "best.safetensors", "calibration.json", "classes.json"),
        *("config.json", "model.safetensors"),
    }
    assert pushed.loads_in_timm
    card = HubCard((tmp_path / "out" / "README.md").read_text())
    assert (card.data.library_name, "onnx" in card.data.tags) == ("timm", False)
    assert "model.onnx" not in card.text
    assert "pip install 'twincar[train]'" in card.text
    assert open_network(tmp_path / "out" / "best.safetensors")[1] == open_network(linear_run)[1]


def test_models_that_cannot_be_pushed_are_refused(exported: Path, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cars is none, so its card holds no results"):
        push(exported, REPO, data_folder=small_data, out=tmp_path / "out")
    weights = tmp_path / "weights.pth"
    weights.touch()
    folder = tmp_path / "openvino"
    folder.mkdir()
    (folder / "model.xml").touch()
    for model in (weights, folder):
        with pytest.raises(UsageError, match="is none of these"):
            push(model, REPO, out=tmp_path / "out")
    with pytest.raises(UsageError, match="but there is none"):
        push(tmp_path / "gone.onnx", REPO, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_bundled_model_has_a_word_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["push", "bundled", REPO, "--out", "published"])
    assert result.exit_code == 0, result.output
    assert "Card: no results" in result.output
    assert read_onnx_spec(tmp_path / "published" / "model.onnx") == read_onnx_spec(MODEL)
