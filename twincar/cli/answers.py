"""Answers as people read them: a block for each car, and what came of all photos in one sentence."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import twincar
from twincar.core.progress import Progress
from twincar.core.user_files import text_name
from twincar.core.wording import counted, percent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from twincar.inference.results import Failure, Prediction

_BAR = 20  # characters of a bar that stands for 100%


def on_terminal() -> bool:
    """Whether results are read on a terminal."""
    return sys.stdout.isatty()


def print_blocks(answers: Iterable[Prediction | Failure]) -> None:
    """Print a block for each car, with colours where the terminal has them and NO_COLOR is not set."""
    from rich.console import Console

    console = Console(highlight=False)
    for number, answer in enumerate(answers):
        if number:
            console.print()
        for part in _block(answer, console):
            console.print(part)


def _block(answer: Prediction | Failure, console: Console) -> Iterator[RenderableType]:
    """The car, how sure the answer is, and the candidates that the answer has not named."""
    from rich.table import Column, Table
    from rich.text import Text

    from twincar.inference.results import Failure, Status

    if isinstance(answer, Failure):
        yield Text(text_name(answer.photo), "bold", overflow="fold")
        yield Text(f"  error: {answer.error}", "red", overflow="fold")
        return
    given = answer.answer
    yield Text(_car_name(answer), "bold", overflow="fold")
    if given is None:
        knows = "; most similar to" if answer.status is Status.UNKNOWN_CAR else ""
        yield Text(f"  {answer.status}{knows}", "dim", overflow="fold")
    bar, share = Column(no_wrap=True), Column(no_wrap=True, justify="right")
    grid = Table.grid(bar, share, Column(overflow="fold"), padding=(0, 2))
    if given:
        level = "" if given.level == "class" else f" ({given.level})"
        color = "yellow" if level else "green"
        name = Text(f"{given.name}{level}", f"bold {color}")
        grid.add_row(_bar(given.probability, color, console), percent(given.probability), name)
    others = answer.topk[1:] if given and given.level == "class" else answer.topk
    for candidate in () if answer.status in (Status.TOO_SMALL, Status.CUT_OFF) else others:
        grid.add_row(" " * (_BAR + 2), Text(percent(candidate.probability), "dim"), Text(candidate.name, "dim"))
    if grid.row_count:
        yield grid


def _bar(share: float, color: str, console: Console) -> Text:
    """A bar for a share, indented like all rows of its block."""
    from rich.text import Text

    full, rest = "#." if console.options.ascii_only else "█░"
    filled = round(share * _BAR)
    return Text.assemble("  ", (full * filled, color), (rest * (_BAR - filled), "dim"))


def _car_name(answer: Prediction) -> str:
    """'photo.jpg', or 'photo.jpg, car 2 of 3'."""
    name = text_name(answer.photo)
    return f"{name}, car {answer.car} of {answer.car_count}" if answer.car_count > 1 else name


class Summary:
    """What came of the photos, counted while their answers pass."""

    def __init__(self, known: int) -> None:
        """`known` is the number of classes that the model knows."""
        self.photos = 0
        self.failed = 0
        self._known = known
        self._without_car = 0
        self._cars: Counter[str] = Counter()

    def counting(
        self, answers: Iterable[Prediction | Failure], on_photo: Progress | None = None
    ) -> Iterator[Prediction | Failure]:
        """Pass answers on; `on_photo` is called with the number of photos so far, and 0 for their total."""
        for answer in answers:
            self._add(answer)
            if on_photo:
                on_photo(self.photos, 0)
            yield answer

    def _add(self, answer: Prediction | Failure) -> None:
        from twincar.inference.results import Failure

        if isinstance(answer, Failure):
            self.photos += 1
            self.failed += 1
            return
        self.photos += answer.car in (None, 1)
        self._without_car += answer.car is None
        if answer.car is None:
            return
        self._cars[answer.status] += 1

    def __str__(self) -> str:
        """Such as '30 photos, 49 cars: 32 named, 3 named in part, 5 not sure, 9 unknown cars.', and what that means."""
        from twincar.inference.results import Status

        if self.failed and self.failed == self.photos:
            return f"{counted(self.failed, 'photo')} could not be read, and there was no other."
        outcomes = [
            counted(count, outcome) if outcome == Status.UNKNOWN_CAR else f"{count:,} {outcome}"
            for outcome in Status
            if (count := self._cars[outcome])
        ]
        text = f"{counted(self.photos, 'photo')}, {counted(self._cars.total(), 'car')}"
        text += f": {', '.join(outcomes)}" if outcomes else ""
        if self._without_car:
            text += f"; {counted(self._without_car, 'photo')} without a car"
        if self.failed:
            text += f"; {counted(self.failed, 'photo')} could not be read"
        named = self._cars[Status.NAMED] + self._cars[Status.NAMED_IN_PART]
        holds = f"A confidence holds for the {self._known:,} cars that the model knows; others may get a high one too."
        return f"{text}.\n{holds}" if named else f"{text}."


def how_to_predict() -> str:
    """What `predict` does and what to type, for a person who has not named a photo."""
    from twincar.models.bundled import WHAT

    example = Path(twincar.__file__).with_name("assets") / "two_cars.jpg"
    if example.is_relative_to(Path.cwd()):
        example = example.relative_to(Path.cwd())
    return f"""\
twincar predict finds the cars in photos and names them: make, model, body and year, and how sure it is.

  twincar predict PHOTO                  one photo or many, folders/ or 'patterns/*.jpg'
  twincar predict PHOTO --draw DIR       also write copies of the photos with boxes and names
  twincar predict -                      a photo, or paths of photos, from standard input
  twincar predict FOLDER --csv > a.csv   for a spreadsheet; --json for programs
  twincar predict FOLDER --out DIR       any number of photos, to Parquet
  twincar predict PHOTO --model MODEL    with a model of yours

Without --model it uses {WHAT}.
All options: twincar predict --help

Try it on a picture that came with twincar:

  twincar predict {shlex.quote(str(example))}"""
