from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twincar.core.labels import ClassNames
from twincar.models.levels import ANSWERED, levels_of, most_specific

CLASSES = ClassNames(
    (
        "BMW 3 Series Sedan 2012",
        "BMW 3 Series Wagon 2012",
        "BMW M3 Coupe 2012",
        "BMW M5 Sedan 2010",
        "Audi S4 Sedan 2012",
        "Audi S4 Sedan 2007",
        "Oddity",
    )
)
PROBABILITIES = np.array([[0.30, 0.05, 0.05, 0.25, 0.15, 0.10, 0.10]], np.float32)


def likeliest(level: str, probabilities: np.ndarray = PROBABILITIES) -> tuple[str, float]:
    found = levels_of(CLASSES)[level]
    groups, shares = found.most_likely(probabilities)
    return found.groups[groups[0]], float(shares[0])


@pytest.mark.parametrize(
    ("level", "name", "probability"),
    [
        ("class", "BMW 3 Series Sedan 2012", 0.30),
        ("model and body", "BMW 3 Series Sedan", 0.30),
        ("model", "BMW 3 Series", 0.35),
        ("make and body", "BMW Sedan", 0.55),
        ("make", "BMW", 0.65),
        ("body", "Sedan", 0.80),
        ("year", "2012", 0.55),
    ],
)
def test_sums_worked_out_by_hand(level: str, name: str, probability: float) -> None:
    assert likeliest(level) == (name, pytest.approx(probability))


def test_a_class_whose_name_does_not_tell_is_no_answer_at_that_level() -> None:
    only_odd = np.array([[0, 0, 0, 0, 0.02, 0, 0.98]], np.float32)
    assert likeliest("class", only_odd) == ("Oddity", pytest.approx(0.98))
    assert likeliest("make", only_odd) == ("Oddity", pytest.approx(0.98))  # its only word is taken for the make
    assert likeliest("body", only_odd) == ("Sedan", pytest.approx(0.02))
    assert levels_of(ClassNames(("One", "Two")))["year"].most_likely(np.full((1, 2), 0.5, np.float32))[1] == 0


@pytest.mark.parametrize(
    ("minimum", "level"), [(0.3, "class"), (0.35, "model"), (0.5, "make and body"), (0.6, "make"), (0.7, "body")]
)
def test_the_most_specific_level_that_is_probable_enough(minimum: float, level: str) -> None:
    shares = {name: found.most_likely(PROBABILITIES)[1] for name, found in levels_of(CLASSES).items()}
    assert ANSWERED[most_specific(shares, minimum)[0]] == level
    assert most_specific(shares, 0.81)[0] == -1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_sums_are_those_of_a_loop_and_never_contradict_each_other(seed: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(CLASSES)), 6).astype(np.float32)
    for level in levels_of(CLASSES).values():
        sums = level.sums(probabilities)
        for group in range(len(level.groups)):
            members = [k for k in range(len(CLASSES)) if level.group_of[k] == group]
            np.testing.assert_allclose(sums[:, group], probabilities[:, members].sum(axis=1), rtol=1e-5)
    make, model = (
        levels_of(CLASSES)["make"].most_likely(probabilities)[1],
        levels_of(CLASSES)["model"].most_likely(probabilities)[1],
    )
    assert (make >= model - 1e-6).all()
