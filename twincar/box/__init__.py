"""The model in the box: what answers where no model is named.

An EfficientNetV2-S in int8, trained from random weights on box crops of Stanford Cars 196; `CARD.md` beside it tells on
what, how, how good it is and what it has never seen, and under which terms its weights may be used.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).with_name("cars196.onnx")
"""An exported model; all that answering needs is in it."""
