"""A small data set with one of each defect: what is found, what is written, what `prepare --exclude` makes of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colour_model import GREEN, RED, paint, write_model
from conftest import PHONE, small_config
from golden_copies import words_of
from PIL import Image

import twincar
from twincar.auditing import label_review as label_audit
from twincar.auditing.duplicates import Group, Pair
from twincar.auditing.findings import COLUMNS, AuditedData, DeepAudit, rows_of_group
from twincar.auditing.label_review import Photos, review_labels
from twincar.core.errors import DataError, UsageError
from twincar.core.files import write_csv, write_json
from twincar.core.labels import ClassNames
from twincar.core.runs import RunFolder
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.exclusions import read_exclusions
from twincar.data.prepare import PrepareOptions, prepare
from twincar.data.toy.cars import CLASS_NAMES, draw_photo
from twincar.data.validate import AuditReport
from twincar.models.checkpoint import build_network, save_model
from twincar.training.train import model_spec

NAMES = ("<script>alert(1)</script>", "Aurora Falcon Sedan 2012", "Bellwood Mercer Sedan 2012")
DRAWN = dict(zip(NAMES, CLASS_NAMES[::8], strict=True))


def draw(name: str, number: int) -> Image.Image:
    return Image.fromarray(np.asarray(draw_photo(DRAWN[name], seed=5, number=number).image))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, six photos each to train on and two to test on, and six copies."""
    folder = tmp_path_factory.mktemp("source")
    rows = []
    for label, name in enumerate(NAMES):
        for number in range(8):
            file = f"{label}-{number}.png"
            draw(name, number).save(folder / file)
            rows.append({"filename": file, "label": name, "split": "train" if number < 6 else "test"})

    def add(file: str, label: str, split: str) -> Path:
        rows.append({"filename": file, "label": label, "split": split})
        return folder / file

    shutil.copy(folder / "0-0.png", add("exact.png", NAMES[0], "train"))
    draw(NAMES[0], 1).resize((100, 70)).save(add("near.jpg", NAMES[0], "train"))
    draw(NAMES[1], 6).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(add("leak.jpg", NAMES[1], "train"))
    draw(NAMES[1], 2).save(add("conflict.jpg", NAMES[2], "train"))
    add("gone.jpg", NAMES[2], "train")
    write_csv(folder / "annotations.csv", rows)
    return folder


@pytest.fixture(scope="module")
def audit(source: Path, tmp_path_factory: pytest.TempPathFactory) -> DeepAudit:
    return twincar.audit(str(source), tmp_path_factory.mktemp("audits") / "cars")


EXPECTED = {
    ("exact.png", "exact duplicate"),
    ("near.jpg", "near duplicate"),
    ("leak.jpg", "leak"),
    ("1-2.png", "class conflict"),
    ("conflict.jpg", "class conflict"),
}


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_found_and_which_photo_should_go(audit: DeepAudit) -> None:
    rows = read_rows(audit.folder / "findings.csv")
    assert tuple(rows[0]) == COLUMNS
    going = {(row["file"], row["reason"]) for row in rows if row["action"] == "exclude"}
    assert going == EXPECTED
    assert all(row["action"] == "look" for row in rows if row["reason"].startswith("odd"))
    (leak,) = [row for row in rows if row["reason"] == "leak"]
    assert leak["split"] == "train"
    assert "1-6.png (Aurora Falcon Sedan 2012, test), which is kept" in leak["detail"]
    assert not audit.is_clean
    summary = json.loads((audit.folder / "audit.json").read_text())
    assert summary["invalid"] == {"missing": 1}
    assert summary["to_exclude"] == 5
    assert [path.name for path in sorted(audit.folder.iterdir())] == ["audit.html", "audit.json", "findings.csv"]


def test_axe_finds_nothing_on_the_page(browser: Any, audit: DeepAudit) -> None:
    assert axe.faults(browser, audit.folder / "audit.html", PHONE) == []


def test_the_page_is_one_file_and_shows_names_as_text(
    audit: DeepAudit, source: Path, golden: Callable[[str, str], None]
) -> None:
    page = (audit.folder / "audit.html").read_text(encoding="utf-8")
    golden("audit", words_of(page).replace(str(source.parent), "..."))
    assert "<script" not in page
    for place in (audit.folder.parent, Path.home()):  # it may be sent to somebody
        assert str(place) not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('src="data:image/webp;base64,') == page.count("<img") >= 8


def test_prepare_leaves_out_what_should_go(audit: DeepAudit, source: Path, tmp_path: Path) -> None:
    data = prepare(str(source), tmp_path / "clean", PrepareOptions(exclude=audit.folder / "findings.csv"))
    assert data.manifest["left_out"] == {"excluded": 5, "missing": 1}
    left_out = {row["file"]: row for row in read_rows(data.folder / "left_out.csv")}
    assert left_out["leak.jpg"]["defect"] == "excluded"
    assert left_out["leak.jpg"]["detail"].startswith("leak: mirror image of 1-6.png")
    assert not {file for file, row in left_out.items() if row["defect"] == "excluded"} & {
        p.file for p in data.annotations
    }
    again = twincar.audit(str(data.folder), tmp_path / "again")
    assert (again.groups, again.data.invalid.findings) == ([], ())
    assert (
        prepare(str(source), tmp_path / "clean", PrepareOptions(exclude=audit.folder / "findings.csv")).manifest
        == data.manifest
    )
    with pytest.raises(UsageError, match="was made with --exclude"):
        prepare(str(source), tmp_path / "clean")


def test_a_change_of_mind_counts(audit: DeepAudit, source: Path, tmp_path: Path) -> None:
    rows = read_rows(audit.folder / "findings.csv")
    for row in rows:
        row["action"] = "look" if row["reason"] == "leak" else row["action"]
    write_csv(tmp_path / "mine.csv", rows)
    assert (
        prepare(str(source), tmp_path / "clean", PrepareOptions(exclude=tmp_path / "mine.csv")).manifest["left_out"][
            "excluded"
        ]
        == 4
    )


def test_an_edited_list_is_not_written_over(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    twincar.audit(str(source), out)
    twincar.audit(str(source), out)  # as it was written: nothing is lost
    (out / "findings.csv").write_text("file\n0-1.png\n")
    with pytest.raises(UsageError, match="has been edited"):
        twincar.audit(str(source), out)
    assert (out / "findings.csv").read_text() == "file\n0-1.png\n"


def test_an_audit_that_ends_before_its_list_is_there_bars_no_new_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, changed = tmp_path / "out", shutil.copytree(source, tmp_path / "changed")
    twincar.audit(str(source), out)
    (changed / "exact.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("twincar.auditing.audit.write_json", lambda *written: write_json(*written) or interrupt())
        with pytest.raises(KeyboardInterrupt):
            twincar.audit(str(changed), out)
    assert "exact.png" in (out / "findings.csv").read_text()  # the list before is whole
    twincar.audit(str(changed), out)
    assert "exact.png" not in (out / "findings.csv").read_text()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_lists_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("file\nété.jpg\n")
    assert read_exclusions(path) == {"été.jpg": "listed in list.csv"}
    path.write_text("file,reason,detail,action\na,r,d,Exclude\nb,r,d,look\nc,r,d,\nd,r,,exclude\n")
    assert read_exclusions(path) == {"a": "r: d", "d": "r"}
    path.write_text("file,action\na,delete\n")
    with pytest.raises(DataError, match="line 2 has 'delete'"):
        read_exclusions(path)
    path.write_text("filename\na\n")
    with pytest.raises(DataError, match="column file"):
        read_exclusions(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_exclusions(tmp_path / "none.csv")


def test_a_list_of_another_source_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\nother.jpg\n")
    with pytest.raises(DataError, match=r"none of its 1 is in the source: 'other\.jpg'"):
        prepare(str(source), tmp_path / "out", PrepareOptions(exclude=tmp_path / "list.csv"))
    assert not (tmp_path / "out").exists()


def test_a_class_without_training_photos_is_a_finding(tmp_path: Path) -> None:
    for split, names in (("train", NAMES[1:2]), ("test", NAMES[1:])):
        for name in names:
            (tmp_path / "s" / split / name).mkdir(parents=True)
            draw(name, 0 if split == "train" else 1).save(tmp_path / "s" / split / name / "1.jpg")
    issues = twincar.audit(str(tmp_path / "s"), tmp_path / "out").class_issues
    assert [(issue.reason, "no photos of 1 of 2" in issue.detail) for issue in issues] == [("class set", True)]


def test_classes_in_another_order_are_a_finding(tmp_path: Path) -> None:
    orders = {"train": NAMES[1:], "test": NAMES[:0:-1]}
    for split, names in orders.items():
        images = []
        for number, name in enumerate(names):
            draw(name, 10 * (split == "test") + number).save(tmp_path / "photo.png")
            images.append({"bytes": (tmp_path / "photo.png").read_bytes(), "path": f"{number}.png"})
        features = {"label": {"_type": "ClassLabel", "names": list(names)}}
        schema = pa.schema(
            [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        table = pa.table({"image": images, "label": list(range(len(names)))}, schema=schema)
        (tmp_path / "source").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "source" / f"{split}.parquet")
    audit = twincar.audit(str(tmp_path / "source"), tmp_path / "out")
    (issue,) = audit.class_issues
    assert issue.reason == "class order"
    assert "test.parquet numbers 2 of its 2 classes differently from train.parquet" in issue.detail
    assert audit.groups == []


def test_folds_need_a_run(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--model RUN with --folds"):
        twincar.audit(str(source), tmp_path / "out", folds=3)


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not trained, on the source as it is."""
    folder = tmp_path_factory.mktemp("run")
    data = prepare(str(source), folder / "data", PrepareOptions(val_share=0.2))
    config = small_config(data.folder, epochs=1)
    run = RunFolder.create(folder / "run")
    run.config.write_text(config.to_yaml())
    spec = model_spec(config, data)
    save_model(run.best, build_network(spec), spec)
    return run.path


def test_only_photos_the_run_has_not_seen_are_judged(run: Path, source: Path, tmp_path: Path) -> None:
    data = PreparedData.open(run.parent / "data")
    audit = twincar.audit(str(run.parent / "data"), tmp_path / "out", model=run)
    assert audit.review
    judged = [data.annotations[place] for place in audit.review.photos.tolist()]
    # Of the six test photos one is a mirrored copy of a training photo.
    assert {photo.split for photo in judged} == {"val", "test"}
    assert "1-6.png" not in {photo.file for photo in judged}
    assert "photos not reviewed: the run was trained on them" in " ".join(audit.review.notes)
    page = (audit.folder / "audit.html").read_text(encoding="utf-8")
    assert f"{len(judged)} photos (" in page
    # The same from the raw source, whose photos are the same bytes.
    raw = twincar.audit(str(source), tmp_path / "raw", model=run).review
    assert raw
    assert len(raw.photos) == len(judged)


def test_each_training_photo_is_judged_by_a_network_that_has_not_seen_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = PreparedData.open(run.parent / "data")
    trained_on: list[set[str]] = []

    def pretend(config, run_path, **_):  # type: ignore[no-untyped-def]
        trained_on.append({photo.sha256 for photo in PreparedData.open(Path(config.data)).split("train")})
        shutil.copytree(run, run_path)
        return type("Result", (), {"run": RunFolder(run_path)})

    monkeypatch.setattr(label_audit, "train", pretend)
    monkeypatch.setattr(label_audit, "resume", lambda path: type("Result", (), {"run": RunFolder(path)}))
    asked: list[tuple[Path, set[str]]] = []
    mean_logits = label_audit._mean_logits

    def watched(judge, photos, places, *rest):  # type: ignore[no-untyped-def]
        asked.append((judge, {photos.annotations[place].sha256 for place in places.tolist()}))
        return mean_logits(judge, photos, places, *rest)

    monkeypatch.setattr(label_audit, "_mean_logits", watched)
    groups = np.arange(len(data.annotations))
    photos = Photos(data.annotations, data.classes, data.photo_root, groups)
    review = review_labels(run, photos, tmp_path / "folds", folds=2)
    assert sorted(review.photos.tolist()) == list(range(len(data.annotations)))
    assert len(trained_on) == 2
    for seen, (_, judged) in zip(trained_on, asked[1:], strict=True):
        assert judged
        assert not seen & judged
    review_labels(run, photos, tmp_path / "folds", folds=2)  # folds that are there are not trained again
    assert len(trained_on) == 2


def test_an_exported_model_judges_labels(tmp_path: Path) -> None:
    """One green car is among the BMWs, which are red."""
    model = write_model(tmp_path / "colours.onnx")
    for car, colours in (("BMW M3 Sedan 2012", [RED] * 6 + [GREEN]), ("Volvo C30 Hatchback 2012", [GREEN] * 6)):
        (tmp_path / "cars" / car).mkdir(parents=True)
        for number, colour in enumerate(colours):
            paint(tmp_path / "cars" / car / f"{number}.png", (colour[0], colour[1], 10 * (number % 6)))
    review = twincar.audit(str(tmp_path / "cars"), tmp_path / "out", model=str(model)).review
    assert review
    assert len(review.photos) == 13
    assert "reviewed by colours; it is not known which of them it was trained on" in review.notes[0]
    suspects = [review.photos[place] for place in review.errors.photos]
    assert suspects == [6]
    with pytest.raises(UsageError, match="Expected a run with --folds"):
        twincar.audit(str(tmp_path / "cars"), tmp_path / "other", model=str(model), folds=3)


def test_folds_that_cannot_be(run: Path, tmp_path: Path) -> None:
    data = PreparedData.open(run.parent / "data")
    photos = Photos(data.annotations, data.classes, data.photo_root, np.arange(len(data.annotations)))
    with pytest.raises(UsageError, match="at least 2 folds"):
        review_labels(run, photos, tmp_path, folds=1)
    with pytest.raises(UsageError, match="at least 40 training photos of each class"):
        review_labels(run, photos, tmp_path, folds=40)
    train = Photos(data.split("train"), data.classes, data.photo_root, np.arange(len(data.split("train"))))
    with pytest.raises(
        DataError, match=r"found none\. \d+ photos not reviewed: the run was trained on them \(--folds 3"
    ):
        review_labels(run, train, tmp_path)


def annotation(file: str, sha256: str, split: str = "train", width: int = 96) -> Annotation:
    return Annotation(file=file, label=0, split=split, width=width, height=64, box=None, sha256=sha256)


def test_a_run_of_other_classes_is_not_said_to_have_seen_the_photos(run: Path, tmp_path: Path) -> None:
    other = annotation("a.png", "0" * 64)
    photos = Photos([other], ClassNames(("Corvane Vela Hatchback 2011",)), tmp_path, np.arange(1))
    for folds in (0, 3):
        with pytest.raises(
            DataError, match=r"none\. 1 photo not reviewed: without a label, or of a class that"
        ) as told:
            review_labels(run, photos, tmp_path, folds=folds)
        assert "trained on" not in str(told.value)


def copies(
    files: dict[str, str], *links: tuple[int, int, bool], splits: str = "", sizes: str = ""
) -> list[dict[str, str]]:
    """What is said of copies with these contents by name, linked in pairs (first, second, mirrored); of each a letter
    tells the split (t: test) and the size (L: larger)."""
    annotations = tuple(
        annotation(name, content, split="test" if s == "t" else "train", width=192 if z == "L" else 96)
        for (name, content), s, z in zip(files.items(), splits.ljust(len(files)), sizes.ljust(len(files)), strict=True)
    )
    data = AuditedData(
        source="s", annotations=annotations, classes=ClassNames(NAMES[1:2]), root=Path(), invalid=AuditReport((), ())
    )
    digests = [photo.sha256 for photo in annotations]
    pairs = tuple(Pair(one, other, 0, 1.0, turned, digests[one] == digests[other]) for one, other, turned in links)
    return list(rows_of_group(data, Group(tuple(range(len(files))), pairs)))


def reasons(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["file"]: row["reason"] for row in rows}


def test_the_same_file_is_an_exact_duplicate_whatever_else_is_in_its_group() -> None:
    rows = copies({"a": "1", "b": "1", "c": "2"}, (0, 1, False), (0, 2, False))
    assert reasons(rows) == {"b": "exact duplicate", "c": "near duplicate"}
    assert rows[0]["detail"].startswith("same file as a (")
    # What is kept is another file: of the two equal ones the second is still a copy of the first.
    rows = copies({"a": "1", "b": "1", "c": "2"}, (0, 1, False), (0, 2, False), sizes="  L")
    assert reasons(rows) == {"a": "near duplicate", "b": "exact duplicate"}
    assert rows[1]["detail"].startswith("same file as a (")
    assert rows[1]["detail"].endswith("same picture as c (Aurora Falcon Sedan 2012, train), which is kept")


def test_the_original_is_kept_and_its_mirror_image_goes() -> None:
    # Two files show it one way, one the other; also where that one is larger. A file counts once.
    rows = copies({"a": "1", "b": "2", "c": "3"}, (0, 1, True), (1, 2, False), sizes="L  ")
    assert reasons(rows) == {"a": "near duplicate", "c": "near duplicate"}
    assert rows[0]["detail"].startswith("mirror image of b (")
    assert rows[1]["detail"].startswith("same picture as b (")
    assert set(reasons(copies({"a": "1", "b": "1", "c": "2"}, (0, 1, False), (0, 2, True), sizes="  L"))) == {"a", "b"}
    # Of two files the names may tell; the same words in the name of an original that is not turned do not.
    assert set(reasons(copies({"1_flipped.jpg": "1", "2.jpg": "2"}, (0, 1, True)))) == {"1_flipped.jpg"}
    assert set(reasons(copies({"flip/1.jpg": "1", "flip/2.jpg": "2"}, (0, 1, True)))) == {"flip/2.jpg"}
    assert set(reasons(copies({"1_flipped.jpg": "1", "2.jpg": "2"}, (0, 1, False)))) == {"2.jpg"}
    # The split that measures most comes before all that.
    assert reasons(copies({"1_flipped.jpg": "1", "2.jpg": "2"}, (0, 1, True), splits="t ")) == {"2.jpg": "leak"}
