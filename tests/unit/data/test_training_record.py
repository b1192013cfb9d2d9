"""Which photos a run has seen, by the hashes of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from twincar.core.errors import DataError
from twincar.core.labels import ClassNames
from twincar.core.runs import RunFolder
from twincar.data.dataset import Annotation, PreparedData
from twincar.data.training_record import Seen, count_seen, describe, read_seen, record_seen


def photos(**digests: str) -> list[Annotation]:
    """A photo a letter."""
    return [
        Annotation(file=digest, label=0, split=split, width=9, height=9, box=None, sha256=digest)
        for split, listed in digests.items()
        for digest in listed
    ]


def test_a_run_knows_its_photos_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert count_seen(run, photos(test="a")) is None
    data = PreparedData(tmp_path, tmp_path, ClassNames(("A",)), tuple(photos(train="abc", val="cd", test="xa")), {})
    record_seen(run, data)
    assert read_seen(run) == {"a": "train", "b": "train", "c": "train", "d": "val"}
    assert count_seen(run, data.split("test")) == Seen(train=1, val=0)
    assert count_seen(run, photos(test="cdyz")) == Seen(train=1, val=1)
    assert count_seen(run, photos(test="yz")) == Seen(0, 0)


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.trained_on.write_text("photo,split\na,train\n")
    with pytest.raises(DataError, match=r"trained_on\.csv, but it is damaged"):
        count_seen(run, [])


@pytest.mark.parametrize(
    ("split", "data", "seen", "said"),
    [
        ("test", None, Seen(0, 0), "test photos, which the model had never seen"),
        ("test", None, Seen(3, 0), "test photos, 3 of which the model was trained on"),
        (
            "test",
            "b",
            Seen(3, 2),
            "test photos of b, 3 of which the model was trained on and 2 of which chose the best epoch",
        ),
        ("test", "b", None, "test photos of b; whether the model had seen any of them in training was not checked"),
        ("val", None, None, "validation photos, by which the best epoch was chosen: expect less on new photos"),
        ("val", "b", Seen(0, 0), "validation photos of b, which the model had never seen"),
        ("train", None, Seen(9, 0), "training photos, on which the model was trained: expect less on new photos"),
        ("train", "b", Seen(0, 4), "training photos of b, 4 of which chose the best epoch"),
    ],
)
def test_never_seen_is_said_only_where_it_was_checked(
    split: str, data: str | None, seen: Seen | None, said: str
) -> None:
    assert describe(split, data, seen) == said
