"""Photos as the hub keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import draw_car, encoded


def write_parquet(folder: Path, count: int, boxes: pa.Array | None = None) -> Path:
    """Training photos of two classes as the hub keeps them, and one photo that is cut; `boxes` is a column `bbox`."""
    folder.mkdir(parents=True)
    photos = []
    for number in range(count):
        photos.append({"bytes": encoded(draw_car(number % 2, number)), "path": f"{number:03d}.jpg"})
    photos[4]["bytes"] = b""
    image = pa.array(photos, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": image, "label": pa.array([number % 2 for number in range(count)])})
    if boxes is not None:
        table = table.append_column("bbox", boxes)
    features = {"label": {"names": ["Borealis C/V Van 2009", "B"]}}
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}),
        folder / "train-00000-of-00001.parquet",
    )
    return folder
