"""Sources of photos: four kinds and the embedded toy cars, with one common interface.

base.py      Source and SourceRow, the interface
hub.py       a data set on the hub; parquet.py reads its files, also from a folder
devkit.py    the original release of Stanford Cars; matfile.py reads its MATLAB files
folders.py   a folder for each class; layouts.py tells which folders are splits and which are classes
table.py     a CSV file; csv_file.py reads its rows, and file_names.py finds the files that it names
toy.py       toy cars, which are drawn when they are needed
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from twincar.core.errors import UsageError
from twincar.data.dataset import MANIFEST, is_outside
from twincar.data.sources.base import Source, SourceRow, asked_splits, file_key
from twincar.data.sources.table import open_table, read_class_file

__all__ = [
    "DEFAULT_SPLITS",
    "Source",
    "SourceRow",
    "asked_splits",
    "file_key",
    "is_outside",
    "open_source",
    "read_class_file",
]

DEFAULT_SPLITS = ("train", "test")
_FORMS = (
    "hub:owner/name[@revision]",
    "a folder of parquet files",
    "the folder of the original release (cars_meta.mat)",
    "a folder with a folder of photos for each class",
    "a CSV file filename,label[,split]",
    "toycars[:SEED]",
)
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
_TABLES = ("annotations.csv", "labels.csv", "photos.csv")


def open_source(
    spec: str,
    *,
    splits: Iterable[str] = DEFAULT_SPLITS,
    classes_file: Path | None = None,
    labels_from: int | None = None,
    allow_untrained: bool = False,
) -> Source:
    """Recognise a source and read its list of photos; the photos themselves are not read yet.

    The source's own validation split, if there is one, comes with the split 'train'.

    Args:
        spec: `hub:owner/name[@revision]`, a folder (parquet files, the original release, `annotations.csv`, or class
            folders below `train/`, `val/`, `test/` or alone), a CSV file, or `toycars[:SEED]`.
        splits: names of the splits to read; only those are downloaded.
        classes_file: what the numbers in the label column of a CSV file mean, see `read_class_file`.
        labels_from: whether the class numbers of a CSV file count from 0 or from 1, if the file does not show it.
        allow_untrained: also accept a source without a training split, or with classes that this split lacks; they come
            last.

    Raises:
        UsageError: `spec` has none of the forms, or an argument does not go with it.
        DataError: the source is not complete.
        HubError: a data set on the hub cannot be downloaded.
        LabelError: its class names do not fit together.
    """
    asked = asked_splits(splits)
    kind, _, rest = spec.partition(":")
    path = Path(spec).expanduser().resolve()
    table = path if path.is_file() and path.suffix.casefold() in _TABLE_SUFFIXES else _table_in(path)
    # Most kinds need libraries of their own, so only the module that is needed is imported.
    if classes_file is not None and (table is None or kind in ("hub", "toycars")):
        raise UsageError(
            f"A class list ({classes_file}) goes with a CSV file, but the source is {spec!r}; leave it out."
        )
    if labels_from is not None and (table is None or kind in ("hub", "toycars")):
        raise UsageError(f"Expected a CSV file with --labels-from, but the source is {spec!r}; leave it out.")
    if kind == "hub":
        from twincar.data.sources.hub import open_hub

        return open_hub(spec, asked, allow_untrained=allow_untrained)
    if kind == "toycars":
        from twincar.data.sources.toy import open_toycars

        return open_toycars(rest or "0", asked)
    if table is not None:
        return open_table(table, asked, classes_file, labels_from=labels_from, allow_untrained=allow_untrained)
    if spec and path.is_dir():
        return _open_folder(path, asked, allow_untrained=allow_untrained)
    found = "which is another kind of file" if path.is_file() else "which is not an existing file or folder"
    raise UsageError(f"Expected a source ({'; '.join(_FORMS)}), but found {spec!r}, {found}.")


def _open_folder(folder: Path, splits: tuple[str, ...], *, allow_untrained: bool) -> Source:
    from twincar.data.sources import devkit, folders

    if any(folder.glob("*.parquet")) or any(folder.glob("data/*.parquet")):
        from twincar.data.sources import parquet

        if parquet.holds_parquet(folder):
            return parquet.open_parquet(folder, splits, description=str(folder), allow_untrained=allow_untrained)
    if devkit.find_in_release(folder, devkit.META):
        return devkit.open_devkit(folder, splits)
    if devkit.find_in_release(folder, devkit.MERGED):
        return devkit.open_merged(folder, splits)
    return folders.open_folders(folder, splits, allow_untrained=allow_untrained)


def _table_in(folder: Path) -> Path | None:
    """The CSV file that describes a folder, if there is one."""
    if (folder / MANIFEST).is_file():
        raise UsageError(f"Expected a source of photos, but {folder} is prepared already: train on it as it is.")
    return next((folder / name for name in _TABLES if (folder / name).is_file()), None)
