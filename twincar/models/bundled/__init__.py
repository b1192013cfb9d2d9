"""The bundled model: what answers where no model is named.

An EfficientNetV2-S, trained from random weights on box crops of Stanford Cars 196, its weights stored as int8. Beside
it `CARD.md` tells on what, how, how good it is and what it has never seen; `LICENSE` is that of the weights.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).with_name("cars196.onnx")
"""An exported model; all that answering needs is in it."""

WHAT = "the bundled model: 196 cars up to 2012, for non-commercial use"
"""As messages call it."""
