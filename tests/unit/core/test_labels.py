from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twincar.core.errors import LabelError
from twincar.core.labels import (
    CarName,
    ClassNames,
    canonical_name,
    class_key,
    parse_class_name,
    shorten,
    slug,
    stanford_cars,
)

TABLE = Path(__file__).with_name("stanford_cars_taxonomy.csv")


def test_all_196_names_split_as_in_the_table() -> None:
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(stanford_cars())
    for row in rows:
        expected = CarName(make=row["make"], model=row["model"], body=row["body"], year=int(row["year"]))
        assert parse_class_name(row["name"]) == expected


@pytest.mark.parametrize(
    ("name", "make", "model", "body", "year"),
    [
        ("Land Rover Range Rover SUV 2012", "Land Rover", "Range Rover", "SUV", 2012),
        ("smart fortwo Convertible 2012", "smart", "fortwo", "Convertible", 2012),
        ("Ram C/V Cargo Van Minivan 2012", "Ram", "C/V Cargo Van", "Minivan", 2012),
        ("Infiniti G Coupe IPL 2012", "Infiniti", "G IPL", "Coupe", 2012),
        ("Jaguar XK XKR 2012", "Jaguar", "XK XKR", "", 2012),
        ("Chevrolet Express Cargo Van 2007", "Chevrolet", "Express Cargo", "Van", 2007),
        ("Tesla", "Tesla", "", "", None),
        ("my dog", "my", "dog", "", None),
        ("BMW 2002", "BMW", "", "", 2002),
    ],
)
def test_parse_class_name(name: str, make: str, model: str, body: str, year: int | None) -> None:
    assert parse_class_name(name) == CarName(make=make, model=model, body=body, year=year)


@given(st.text(max_size=60))
def test_any_text_can_be_parsed(name: str) -> None:
    car = parse_class_name(name)
    assert car.make == "" or name.split()[0].startswith(car.make.split()[0])


@pytest.mark.parametrize(
    "spelling",
    ["Ram C-V Cargo Van Minivan 2012", "Ram_C-V_Cargo_Van_Minivan_2012", " ram c/v cargo van  minivan 2012 "],
)
def test_the_class_with_a_slash_keeps_its_name(spelling: str) -> None:
    assert canonical_name(spelling) == "Ram C/V Cargo Van Minivan 2012"


def test_no_two_stanford_names_share_a_key() -> None:
    assert len({class_key(name) for name in stanford_cars()}) == 196


def test_composed_and_decomposed_letters_are_the_same_class() -> None:
    assert class_key("Citroe\u0308n C4") == class_key("Citro\u00ebn C4")


def test_classes_are_matched_by_name_not_by_position() -> None:
    ours, model = ClassNames(("B 2001", "A 2000")), ClassNames(("A 2000", "C 2002", "b_2001"))
    assert ours.indices_in(model) == [2, 0]


def test_a_class_the_model_lacks_is_refused() -> None:
    with pytest.raises(LabelError, match="'C 2002'"):
        ClassNames(("A 2000", "C 2002")).indices_in(ClassNames(("A 2000", "B 2001")))


@pytest.mark.parametrize("names", [(), ("A", "a"), ("A", " "), ("Ram C/V", "Ram C-V")])
def test_class_names_that_cannot_be_told_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(LabelError, match="Expected"):
        ClassNames(names)


def test_shorten_tells_how_many_more() -> None:
    assert shorten(["a", "b"]) == "'a', 'b'"
    assert shorten("abcde", show=2) == "'a', 'b' and 3 more"
    assert shorten("abc", show=3) == shorten("abc") == "'a', 'b', 'c'"
    assert shorten("abcd") == "'a', 'b', 'c' and 1 more"


def test_a_slug_is_safe_in_a_file_name() -> None:
    assert slug(" Ram C/V Cargo_Van  2012! ") == "ram-c-v-cargo-van-2012"


def test_names_of_no_stanford_car_keep_their_spelling() -> None:
    assert canonical_name("  Citroe\u0308n   C4 ") == "Citro\u00ebn C4"


def test_an_index_by_name_or_the_names_that_are_near() -> None:
    classes = ClassNames(("Aurora Falcon Sedan 2012", "Aurora Falcon Coupe 2012", "Corvus Nine SUV 2011"))
    assert classes.index("corvus_nine suv 2011") == 2
    near = "similar names are Aurora Falcon Sedan 2012, Aurora Falcon Coupe 2012"
    with pytest.raises(LabelError, match=f"one of 3 classes, but found 'Aurora Falcon Sedan 2013'; {near}"):
        classes.index("Aurora Falcon Sedan 2013")
    with pytest.raises(LabelError, match=r"one of 3 classes, but found '~'\.$"):
        classes.index("~")
    assert classes.to_rows()[2]["index"] == 2


def test_a_year_alone_is_a_name() -> None:
    assert parse_class_name("2012").year is None


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\udcffb"])
def test_a_name_that_no_line_can_hold_is_refused(name: str) -> None:
    with pytest.raises(LabelError, match="without control characters, in UTF-8"):
        ClassNames((name, "c"))
