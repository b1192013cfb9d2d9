"""What `twincar info` tells, and that nothing missing or odd stops it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

import twincar
from twincar.core import info as info_module
from twincar.core.info import info
from twincar.core.machine import describe_cpu


def test_versions_are_those_of_the_packages() -> None:
    import numpy as np
    import torch

    found = info()
    packages = {name: version for extra in found.extras for name, version in extra.packages.items()}
    assert packages["numpy"] == np.__version__
    assert packages["torch"] == torch.__version__.partition("+")[0]
    assert found.version == twincar.__version__
    assert found.engines[".onnx"] == "onnxruntime"


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from twincar.core.info import info; info()\n"
        "assert not {'torch', 'numpy', 'onnxruntime', 'openvino', 'gradio'} & set(sys.modules), sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("a GPU may be here, and then torch is asked")
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_what_is_missing_is_told_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_module, "packages_by_extra", lambda: {"": ["numpy"], "serve": ["fastapi", "no-such-one"]})
    found = info()
    assert [extra.missing for extra in found.extras] == [[], ["no-such-one"]]
    said = run("info").stdout
    assert "twincar: complete\n" in said
    assert "twincar[serve]: 1 missing\n" in said
    assert "missing: no-such-one; pip install 'twincar[serve]'" in said
    packages = json.loads(run("info", "--json").stdout)["extras"][1]["packages"]
    assert packages["no-such-one"] is None
    assert packages["fastapi"]


def test_engines_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_module, "find_spec", lambda name: object() if name == "onnxruntime" else None)
    assert list(info().engines.values()) == [None, "onnxruntime", "onnxruntime", None]
    assert "OpenVINO folder: none is installed" in run("info").stdout


def test_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@hub.example/path")
    found = info().environment
    assert (found["HF_TOKEN"], found["HF_ENDPOINT"]) == ("set", "https://hub.example/path")
    assert "secret" not in run("info").stdout + run("info", "--json").stdout


def test_the_cache_is_measured_where_the_hub_keeps_it(tmp_path: Path) -> None:
    for number, size in enumerate((3, 4)):
        blob = tmp_path / "hub" / f"models--a--{number}" / "blobs" / "0123"
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"x" * size)
        (blob.parents[1] / "snapshots").mkdir()
        (blob.parents[1] / "snapshots" / "model").symlink_to(blob)  # the same bytes under their name
    code = "import json; from twincar.core.info import info; print(json.dumps(info().to_dict()['hub_cache']))"
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
    environment["HF_HOME"] = str(tmp_path)
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == {"folder": str(tmp_path / "hub"), "files": 2, "bytes": 7}


def test_an_nvidia_driver_is_asked_where_torch_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA One'\necho 'NVIDIA Two'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert info().gpus.names == ["NVIDIA One", "NVIDIA Two"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert info().gpus.names == []


def test_a_system_that_tells_nothing_of_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert describe_cpu().speedups == []
    assert describe_cpu().model
