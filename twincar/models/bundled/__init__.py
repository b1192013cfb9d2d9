"""The bundled model, which is used if no model is named.

An EfficientNet-Lite0, trained from ImageNet weights on box crops of Stanford Cars 196, with weights stored as int8.
`CARD.md` beside it describes its training, its accuracy and its limits; `LICENSE` is the licence of the weights.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).with_name("cars196.onnx")
"""An exported model, which needs no other file."""
BUNDLED = "bundled"
"""What it is called where a model must be named."""

WHAT = "the bundled model: 196 cars up to 2012, for non-commercial use"
"""Its name in messages."""
