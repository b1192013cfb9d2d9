"""Inference engines: torch, onnxruntime and OpenVINO behind one interface."""
