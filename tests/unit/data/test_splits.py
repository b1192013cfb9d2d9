from __future__ import annotations

from collections import Counter

import pytest

from twincar.core.files import sha256_of
from twincar.data.dataset import Annotation
from twincar.data.splits import _pick, singletons, with_test, with_validation


def photo(file: str, label: int | None, split: str = "train", content: str = "") -> Annotation:
    """A photo whose bytes are its name unless something else is said."""
    digest = sha256_of((content or file).encode())
    return Annotation(file=file, label=label, split=split, width=4, height=3, box=None, sha256=digest)


def drawn(photos: list[Annotation], share: float = 0.25, seed: int = 0) -> list[str]:
    return [found.file for found in with_validation(photos, share, seed) if found.split == "val"]


def some(count: int, label: int = 0) -> list[Annotation]:
    return [photo(f"{label}-{number:02d}", label) for number in range(count)]


def test_the_first_by_hash_of_seed_and_bytes_are_drawn() -> None:
    """Worked out here again, with another sorting of the same hashes."""
    photos = some(8) + some(8, label=1)
    for seed in (0, 1):
        expected = []
        for label in (0, 1):
            own = [found for found in photos if found.label == label]
            ranked = sorted((sha256_of(f"{seed} {found.sha256}".encode()), found.file) for found in own)
            expected += [file for _, file in ranked[:2]]
        assert drawn(photos, 0.25, seed) == sorted(expected)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.25, 2), (0.31, 2), (0.32, 3), (0.5, 4), (0.99, 7)])
def test_share_of_each_class_but_never_none_or_all(share: float, expected: int) -> None:
    """Of 8 photos: 0.31 is 2.48, 0.32 is 2.56, 0.99 is 7.92 and leaves one to train on."""
    assert len(drawn(some(8), share)) == expected


def test_order_is_of_split_and_file() -> None:
    photos = [photo("z", 0), photo("a", 0), photo("m", 0, "test"), photo("b", 0, "test"), photo("k", 0)]
    found = with_validation(photos, 0.3, 0)
    assert [(one.split, one.file) for one in found] == sorted((one.split, one.file) for one in found)
    assert Counter(one.split for one in found) == {"train": 2, "val": 1, "test": 2}


def test_a_validation_split_of_the_source_stays_as_it_is() -> None:
    photos = [*some(8), photo("own", 0, "val")]
    assert drawn(photos) == ["own"]


def test_test_photos_are_never_drawn_even_with_the_bytes_of_one_that_is() -> None:
    photos = some(2)
    (chosen,) = drawn(photos)
    twin = photo("twin", 0, "test", content=chosen)
    found = {one.file: one.split for one in with_validation([*photos, twin], 0.25, 0)}
    assert found["twin"] == "test"
    assert found[chosen] == "val"


def test_the_same_bytes_stay_together() -> None:
    """Groups of two and four: half of 6 is 3, in which only the pair has room."""
    photos = [photo(f"pair{n}", 0, content="pair") for n in range(2)] + [
        photo(f"four{n}", 0, content="four") for n in range(4)
    ]
    assert drawn(photos, 0.5) == ["pair0", "pair1"]


def test_where_nothing_fits_the_smallest_group_is_drawn() -> None:
    """A tenth of 5 is room for one photo, and every group has more."""
    photos = [photo(f"three{n}", 0, content="three") for n in range(3)] + [
        photo(f"two{n}", 0, content="two") for n in range(2)
    ]
    assert drawn(photos, 0.1) == ["two0", "two1"]


def test_a_photo_with_two_labels_trains() -> None:
    """It counts in both classes, and is drawn for neither: of two photos each, the other one is."""
    photos = [photo("a", 0), photo("b", 1), photo("both0", 0, content="both"), photo("both1", 1, content="both")]
    assert drawn(photos, 0.5) == ["a", "b"]


def test_room_that_is_left_goes_to_what_fits() -> None:
    """Of 9, room for 3: a group of two, then of what follows in the order by hash the first single one."""
    photos = [photo(f"pair{n}", 0, content="pair") for n in range(2)] + some(7)
    for seed in range(12):
        chosen = drawn(photos, 1 / 3, seed)
        assert len(chosen) == 3
        assert ("pair0" in chosen) == ("pair1" in chosen)


@pytest.mark.parametrize("photos", [some(1), [photo("a", 0, content="x"), photo("b", 0, content="x")]])
def test_a_class_with_one_photo_is_trained_on_only(photos: list[Annotation]) -> None:
    """Also where that one is there twice."""
    found = [*some(4), *(photo(f"c{one.file}", 1, content=one.sha256) for one in photos)]
    assert singletons(found) == [1]
    assert [one[0] for one in drawn(found)] == ["0"]


def test_a_class_whose_photos_all_have_another_label_too_is_trained_on_only() -> None:
    photos = [*some(4), photo("0-00b", 1, content="0-00"), photo("0-01b", 1, content="0-01")]
    assert singletons(photos) == [1]
    assert {one[-1] for one in drawn(photos)} <= {"2", "3"}


def test_classes_of_which_a_photo_can_be_spared() -> None:
    """Two different photos, or one and another that is there twice, or one and another that two classes have."""
    pair = [photo("p0", 1, content="p"), photo("p1", 1, content="p"), photo("q", 1)]
    shared = [photo("r", 2), photo("s", 2), photo("s2", 0, content="s")]
    assert singletons([*some(2), *pair, *shared]) == []
    assert singletons([*some(1), photo("test", 0, "test")]) == [0]
    assert singletons([*some(1), photo("own", 1, "val")]) == []  # where the source has validation photos


def test_test_photos_are_chosen_by_the_seed_and_leave_two_photos_of_every_class() -> None:
    """A class keeps one photo to train and one to validate on; worked out here again, with another sorting."""
    photos = [*some(10), *some(3, label=1), *some(2, label=2), *some(1, label=3)]
    for seed in (0, 1):
        ranked = sorted(photos[:10], key=lambda found: sha256_of(f"{seed} test {found.sha256}".encode()))
        found = with_test(photos, 0.2, seed)
        tested = [one.file for one in found if one.split == "test"]
        assert [file for file in tested if file[0] == "0"] == sorted(one.file for one in ranked[:2])
        assert Counter(file[0] for file in tested) == {"0": 2, "1": 1}
        assert singletons(found) == [3]
        again = with_validation(found, 0.2, seed)
        assert Counter((one.split, one.label) for one in again if one.label == 1) == dict.fromkeys(
            (("test", 1), ("train", 1), ("val", 1)), 1
        )
        assert [one.file for one in again if one.split == "test"] == tested


def test_test_photos_leave_one_that_can_be_spared_for_validation() -> None:
    """Of the three photos of class 0 two are of class 1 too, so that the third alone can be validated on."""
    shared = [photo("a", 0), photo("b", 0), photo("a1", 1, content="a"), photo("b1", 1, content="b")]
    photos = [*shared, photo("own", 0), *some(6, label=1)]
    found = with_test(photos, 0.5, 0)
    assert {one.label for one in found if one.split == "test"} == {1}
    assert singletons(found) == []
    own_validation = [*some(2), photo("val", 0, "val")]
    assert [one.split for one in with_test(own_validation, 0.1, 0)] == ["test", "train", "val"]


def test_where_no_photo_fits_the_one_with_the_fewest_copies_is_taken() -> None:
    assert _pick([("a", 6), ("b", 5), ("c", 7)], total=20, share=0.1, most=2) == {"b"}
    assert _pick([("a", 20)], total=20, share=0.1, most=1) == set()
