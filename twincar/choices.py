"""The words a user chooses from that more than one room knows; imports nothing, as `--help` must be quick."""

from __future__ import annotations

from typing import Literal

Head = Literal["mlp", "linear"]
"""Kinds of classifier: 'mlp' is Linear-ReLU-Dropout-Linear, 'linear' a single layer."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""What a training computes in."""

ExportFormat = Literal["onnx", "openvino"]
"""Kinds of exported model: one file, or a folder."""

Arithmetic = Literal["fp32", "fp16", "bf16", "int8"]
"""What an exported model stores and computes in; 'fp16' stores half and computes in full precision."""

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
"""What computes an answer; 'auto' is the quickest that is installed for the model at hand."""
