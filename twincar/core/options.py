"""What a user chooses that more than one room knows; imports nothing, as `--help` must be quick."""

from __future__ import annotations

from typing import Literal

Head = Literal["mlp", "linear"]
"""Kinds of classifier: 'mlp' is Linear-ReLU-Dropout-Linear, 'linear' a single layer."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""What a training computes in."""

ExportFormat = Literal["onnx", "openvino"]
"""Kinds of exported model: one file, or a folder."""

Arithmetic = Literal["fp32", "fp16", "bf16", "int8", "int8-weights"]
"""What an exported model stores and computes in; 'fp16' stores half, 'int8-weights' a quarter, and both compute in full
precision."""

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
"""What computes an answer; 'auto' is the quickest that is installed for the model at hand."""

CONFIDENCE = 0.8
"""How probable an answer has to be to be given, unless the user says otherwise."""

FALSE_REJECTION = 0.05
"""Share of the photos of known cars that may be turned away as unknown, unless the user says otherwise."""
