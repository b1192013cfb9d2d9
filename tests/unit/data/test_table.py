"""Tables as people write them: numbers for classes, gaps, commas, other separators and encodings, other file names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import draw_car

from twincar.core.errors import DataError, Defect, UsageError
from twincar.data.prepare import PrepareOptions, prepare
from twincar.data.sources import Source, SourceRow, open_source, read_class_file
from twincar.data.validate import audit_source

HEADER = "filename,label\n"


def write_table(folder: Path, text: str | bytes, *photos: str, name: str = "cars.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(photos):
        path = folder / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_car(number % 4, number).save(path, "JPEG")
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows_of(source: Source) -> list[SourceRow]:
    return list(source.rows())


def labels_in(path: Path, **options: int) -> list[int | str | None]:
    return [row.label for row in rows_of(open_source(str(path), **options))]


def numbered(folder: Path, *numbers: object, classes: str = "A\nB\nC\nD\n") -> Path:
    (folder / "classes.txt").write_text(classes)
    return write_table(folder, HEADER + "".join(f"{place}.jpg,{number}\n" for place, number in enumerate(numbers)))


# --- do class numbers count from 0 or from 1?


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((1, 0, 2), [1, 0, 2]),  # a 0 can only count from 0
        ((0, 4), [0, "4"]),  # then 4 is none of four classes, and a bad row
        ((1, 4, "2.0"), [0, 3, 1]),  # without one, 4 of four classes can only count from 1
        ((1, 4, "", "NaN", -1), [0, 3, None, None, None]),  # a gap proves nothing
    ],
)
def test_numbers_whose_start_is_proven(tmp_path: Path, numbers: tuple[object, ...], expected: list[object]) -> None:
    assert labels_in(numbered(tmp_path, *numbers)) == expected


def test_that_numbers_count_from_one_is_said(tmp_path: Path) -> None:
    assert open_source(str(numbered(tmp_path, 1, 4))).notes == ("Class numbers count from 1: 1 to 4 for 4 classes.",)
    assert open_source(str(numbered(tmp_path, 0, 3))).notes == ()


@pytest.mark.parametrize("numbers", [(1, 3), (2, 3), (1, 9), (3, -2)])
def test_numbers_that_may_count_from_either_are_not_guessed(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    path = numbered(tmp_path, *numbers)
    with pytest.raises(UsageError, match=r"from 0 or from 1, but .* fit both.*--labels-from 0 or --labels-from 1"):
        open_source(str(path))


def test_what_numbers_count_from_can_be_told(tmp_path: Path) -> None:
    path = numbered(tmp_path, 1, 3)
    assert labels_in(path, labels_from=0) == [1, 3]
    assert labels_in(path, labels_from=1) == [0, 2]
    assert labels_in(numbered(tmp_path, 1, 9), labels_from=1) == [0, "9"]


def test_what_numbers_mean_does_not_depend_on_the_splits_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("A\nB\nC\n")
    text = "filename,label,split\n1.jpg,1,train\n2.jpg,2,train\n3.jpg,{},test\n"
    for last, expected in ((0, [1, 2]), (3, [0, 1])):
        path = write_table(tmp_path, text.format(last))
        assert [row.label for row in rows_of(open_source(str(path), splits=["train"]))] == expected


@pytest.mark.parametrize(("numbers", "told", "proven"), [((0, 1), 1, 0), ((1, 4), 0, 1)])
def test_what_is_told_must_not_contradict_the_numbers(
    tmp_path: Path, numbers: tuple[int, ...], told: int, proven: int
) -> None:
    with pytest.raises(UsageError, match=f"from {told} in .*as --labels-from says, but .* count from {proven}"):
        open_source(str(numbered(tmp_path, *numbers)), labels_from=told)


def test_what_is_told_must_be_of_use(tmp_path: Path) -> None:
    path = write_table(tmp_path, HEADER + "1.jpg,A\n")
    with pytest.raises(UsageError, match="class numbers in the column label"):
        open_source(str(path), labels_from=0)
    with pytest.raises(UsageError, match="a CSV file with --labels-from"):
        open_source("toycars", labels_from=0)


def test_another_start_makes_another_data_set(tmp_path: Path) -> None:
    names = [f"{place}.jpg" for place in range(6)]
    (tmp_path / "classes.txt").write_text("A\nB\nC\nD\n")
    text = HEADER + "".join(f"{name},{1 + place % 2}\n" for place, name in enumerate(names))
    path = write_table(tmp_path, text, *names)
    assert prepare(str(path), tmp_path / "one", PrepareOptions(labels_from=1)).classes.names == ("A", "B")
    assert prepare(str(path), tmp_path / "zero", PrepareOptions(labels_from=0)).classes.names == ("B", "C")
    with pytest.raises(UsageError, match="--labels-from 1, not 0"):
        prepare(str(path), tmp_path / "one", PrepareOptions(labels_from=0))


@pytest.mark.parametrize("indices", [(1, 2), (1, 0)])
def test_class_list_whose_indices_are_not_its_order(tmp_path: Path, indices: tuple[int, int]) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps([{"index": index, "name": name} for index, name in zip(indices, "AB", strict=True)]))
    with pytest.raises(DataError, match="in the order of their index, from 0, but it differs"):
        read_class_file(path)


# --- no label


@pytest.mark.parametrize("gap", ["", "NaN", "nan", "None", "NULL", "N/A", "NA", "<NA>", "#N/A", "-1", " nan "])
def test_what_stands_for_no_label_is_no_class(tmp_path: Path, gap: str) -> None:
    text = f"filename,label,split\n1.jpg,A,train\n2.jpg,{gap},train\n3.jpg,{gap},test\n4.jpg,A,test\n"
    source = open_source(str(write_table(tmp_path, text, "1.jpg", "2.jpg", "3.jpg", "4.jpg")))
    assert source.classes.names == ("A",)
    assert [row.label for row in rows_of(source)] == [0, None, None, 0]
    report = audit_source(source)
    assert report.counts() == {Defect.UNKNOWN_LABEL: 1}  # nothing can be learnt from it
    assert [(photo.file, photo.label) for photo in report.valid] == [("1.jpg", 0), ("3.jpg", None), ("4.jpg", 0)]


def test_names_that_only_look_like_a_gap(tmp_path: Path) -> None:
    path = write_table(tmp_path, HEADER + "1.jpg,Nano\n2.jpg,Nissan NA\n")
    assert open_source(str(path)).classes.names == ("Nano", "Nissan NA")


# --- cells and columns


def test_surplus_and_missing_cells_are_an_error_with_their_lines(tmp_path: Path) -> None:
    text = HEADER + "1.jpg,Ford F-150, Crew Cab\n2.jpg,A\n3.jpg\n\n4.jpg,B\n5.jpg,A,\n6.jpg,B\n"
    path = write_table(tmp_path, text, *(f"{number}.jpg" for number in range(1, 7)))
    source = open_source(str(path))
    assert source.malformed_lines == (2, 4)
    assert source.classes.names == ("A", "B")
    with pytest.raises(DataError, match=r"2 of 6 rows have more or fewer: line 2, 4\. Put .* between double quotes"):
        prepare(str(path), tmp_path / "out")
    report = audit_source(source)
    assert report.counts() == {Defect.MALFORMED: 2}
    assert report.rows()[0]["detail"] == (
        "Expected 2 cells in line 2, but there are 3: '1.jpg', 'Ford F-150', ' Crew Cab'."
    )
    assert [photo.file for photo in report.valid] == ["2.jpg", "4.jpg", "5.jpg", "6.jpg"]


def test_a_table_of_nothing_but_malformed_rows(tmp_path: Path) -> None:
    path = write_table(tmp_path, HEADER + "1.jpg,Ford, Crew\n" * 9)
    with pytest.raises(DataError, match=r"9 of 9 rows .* line 2, 3, 4, 5, 6, 7 and 3 more"):
        open_source(str(path))


def test_quoted_commas_are_no_separators(tmp_path: Path) -> None:
    path = write_table(tmp_path, HEADER + '1.jpg,"Ford F-150, Crew Cab"\n2.jpg,"Ford F-150, Regular Cab"\n')
    assert open_source(str(path)).classes.names == ("Ford F-150, Crew Cab", "Ford F-150, Regular Cab")


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("filename,label,label", "label", "label"),
        ("filename,label, Label ", "label", " Label "),
        ("filename,class,label", "class", "label"),
        ("file,filename,label", "file", "filename"),
        ("filename,label,x1,y1,x2,y2,X1", "x1", "X1"),
    ],
)
def test_a_column_that_is_named_twice_is_refused(tmp_path: Path, header: str, first: str, second: str) -> None:
    path = write_table(tmp_path, header + "\n1.jpg,A,B,1,1,9,9\n")
    with pytest.raises(DataError, match=f"'{first}' and '{second}' both mean it"):
        open_source(str(path))


def test_columns_that_are_not_read_may_be_named_twice(tmp_path: Path) -> None:
    path = write_table(tmp_path, ",filename,owner,label,owner,\n0,1.jpg,x,A,y,\n1,2.jpg,x,B,y,\n")
    assert labels_in(path) == [0, 1]


@pytest.mark.parametrize("header", ["file,class", "file_name,label", "image,Class", '"filename","label"'])
def test_other_names_of_the_columns(tmp_path: Path, header: str) -> None:
    path = write_table(tmp_path, f"{header}\n1.jpg,A\n2.jpg,B\n")
    assert [(row.name, row.label) for row in rows_of(open_source(str(path)))] == [("1.jpg", 0), ("2.jpg", 1)]


# --- separators and encodings


NAMES = {";": "cars.csv", "\t": "cars.tsv", ",": "cars.txt"}


@pytest.mark.parametrize("separator", NAMES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_tables_of_spreadsheets(tmp_path: Path, separator: str, encoding: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    text = mark + 'filename,label,split\r\nété.jpg,"Citroën, C4",train\r\n2.jpg,B,Training\r\n'
    text = text.replace(",", separator).replace(f"Citroën{separator}", "Citroën,")
    source = open_source(str(write_table(tmp_path, text.encode(encoding), name=NAMES[separator])))
    assert [(row.name, source.classes[row.label], row.split) for row in rows_of(source)] == [  # type: ignore[index]
        ("été.jpg", "Citroën, C4", "train"),
        ("2.jpg", "B", "train"),
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("filename,label\n1.jpg,Citroën\n".encode("latin-1"), "UTF-8 text in .* save it as UTF-8"),
        ("filename,label\n1.jpg,A\n".encode("utf-16-le"), "zero bytes; save it as UTF-8"),
        ("filename,label\n1.jpg,A\n".encode("utf-16")[:-1], "UTF-16 text in .* save it as UTF-8"),
    ],
)
def test_encodings_that_are_not_read(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        open_source(str(write_table(tmp_path, data)))


# --- from names to files


def test_absolute_names_below_the_table(tmp_path: Path) -> None:
    photos = tmp_path / "set" / "images"
    (tmp_path / "link").symlink_to(tmp_path / "set")
    text = HEADER + f"{photos}/1.jpg,A\n{tmp_path}/link/images/2.jpg,B\n{tmp_path}/3.jpg,A\n{photos}/../../3.jpg,B\n"
    path = write_table(tmp_path / "set", text, "images/1.jpg", "images/2.jpg", "../3.jpg")
    source = open_source(str(path))
    report = audit_source(source)
    assert [photo.file for photo in report.valid] == ["images/1.jpg", "images/2.jpg"]
    assert report.counts() == {Defect.OUTSIDE: 2}
    assert report.findings[0].detail.startswith(f"Expected a file below {tmp_path / 'set'}, but {tmp_path}/3.jpg lies ")


def test_absolute_and_relative_names_in_one_table(tmp_path: Path) -> None:
    text = HEADER + f"1.jpg,A\n{tmp_path}/images/2.jpg,B\n"
    source = open_source(str(write_table(tmp_path, text, "images/1.jpg", "images/2.jpg")))
    assert [row.name for row in rows_of(source)] == ["1.jpg", "2.jpg"]
    assert source.photo_root == tmp_path / "images"


def test_names_without_suffix_or_in_another_case(tmp_path: Path) -> None:
    text = HEADER + "00,A\na/01.JPG,B\nv1.5,A\n00.jpg,A\n"
    source = open_source(str(write_table(tmp_path, text, "00.jpg", "a/01.jpg", "v1.5.jpeg")))
    assert [row.name for row in rows_of(source)] == ["00.jpg", "a/01.jpg", "v1.5.jpeg", "00.jpg"]
    assert source.notes == (
        "The names of 3 of 4 photos differ from those of their only matching files, such as '00' for '00.jpg'.",
    )
    assert audit_source(source).counts() == {Defect.REPEATED: 1}


def test_names_that_fit_no_file_or_several_say_what_lies_there(tmp_path: Path) -> None:
    text = HEADER + "1,A\n2.jpg,B\n3.PNG,A\n4,A\n5.jpg,B\n"
    photos = ("1.jpg", "1.png", "2.jpeg", "3.jpg", "5.JPG", "5.Jpg")
    report = audit_source(open_source(str(write_table(tmp_path, text, *photos))))
    assert report.counts() == {Defect.MISSING: 5}
    details = [found.detail for found in report.findings]
    assert "but found '1.jpg', '1.png'." in details[0]
    assert "but found '2.jpeg'." in details[1]  # another suffix may be another photo
    assert "but found '3.jpg'." in details[2]
    assert "but found" not in details[3]
    assert "but found '5.JPG', '5.Jpg'." in details[4]


# --- what they are for


def test_a_table_of_test_photos_only(tmp_path: Path) -> None:
    text = "filename,label,split\n1.jpg,A,test\n2.jpg,B,testing\n3.jpg,,test_set\n"
    path = write_table(tmp_path, text, "1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(DataError, match=r"training photos in .*add --split test"):
        open_source(str(path))
    data = prepare(str(path), tmp_path / "out", PrepareOptions(splits=["test"]))
    assert [(photo.file, photo.label) for photo in data.split("test")] == [("1.jpg", 0), ("2.jpg", 1), ("3.jpg", None)]
    assert data.classes.names == ("A", "B")
    assert data.manifest["photos"] == {"test": 3}
    # Without a column split all are what is asked for.
    path = write_table(tmp_path, HEADER + "1.jpg,A\n2.jpg,B\n")
    assert {row.split for row in rows_of(open_source(str(path), splits=["test"]))} == {"test"}
