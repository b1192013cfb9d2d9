from __future__ import annotations

from twincar.core.labels import ClassNames
from twincar.data.class_issues import describe_few, find_class_issues
from twincar.data.dataset import Annotation

CLASSES = ClassNames(("A", "B", "C"))


def photos(**counts: list[int]) -> list[Annotation]:
    return [
        Annotation(file="x", label=label, split=split, width=9, height=9, box=None, sha256="")
        for split, numbers in counts.items()
        for label, number in enumerate(numbers)
        for _ in range(number)
    ]


def issues(annotations: list[Annotation], lists: dict[str, tuple[str, ...]] | None = None) -> list[tuple[str, str]]:
    return [(issue.reason, issue.detail) for issue in find_class_issues(annotations, CLASSES, lists or {})]


def test_nothing_to_say() -> None:
    assert issues(photos(train=[9, 1, 2], test=[1, 1, 1]), {"train": ("A", "B", "C"), "test": ("a", "b", "c")}) == []


def test_order_that_differs() -> None:
    lists = {"train": ("A", "B", "C"), "test": ("A", "C", "B"), "val": ("A", "C")}
    found = issues(photos(train=[1, 1, 1]), lists)
    assert [reason for reason, _ in found] == ["class order", "class order"]
    assert "test numbers 2 of its 3 classes differently from train, such as 'C', 'B'" in found[0][1]
    assert "val numbers 1 of its 2 classes" in found[1][1]  # a class got lost, and those after it moved up


def test_classes_that_a_split_lacks() -> None:
    found = issues(photos(train=[2, 2, 0], test=[1, 0, 3]))
    assert [reason for reason, _ in found] == ["class set", "class set"]
    assert "train has no photos of 1 of 3 classes, nothing to learn them from: 'C'" in found[0][1]
    assert "test has no photos of 1 of 3 classes, nothing to measure them on: 'B'" in found[1][1]


def test_a_class_to_learn_that_validation_lacks() -> None:
    found = issues(photos(train=[2, 2, 2], val=[1, 0, 0], test=[1, 1, 1]))
    harm = "the best epoch is chosen without them"
    assert found == [("class set", f"val has no photos of 2 of 3 classes, {harm}: 'B', 'C'")]


def test_validation_photos_that_lack_a_class() -> None:
    assert issues(photos(train=[2, 2, 2], val=[1, 0, 1])) == [
        ("class set", "val has no photos of 1 of 3 classes, the best epoch is chosen without them: 'B'")
    ]


def test_imbalance() -> None:
    assert issues(photos(train=[29, 3, 9])) == []
    assert issues(photos(train=[30, 3, 9])) == [("class balance", "30 training photos of 'A' and 3 of 'B'")]


def test_classes_of_few_training_photos() -> None:
    """From one to four; none at all is another issue, and photos of other splits do not count."""
    assert describe_few(photos(train=[5, 9, 0], val=[1, 1, 1]), CLASSES) == []
    (sentence,) = describe_few(photos(train=[4, 9, 1], test=[9, 9, 9]), CLASSES)
    assert sentence.startswith("2 of 3 classes with fewer than 5 training photos, from which a car is hardly learned: ")
    assert "'C: 1', 'A: 4'." in sentence  # the fewest first
