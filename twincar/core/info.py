"""The `info` verb: versions, extras, devices, engines, caches and environment of this installation.

It is fast and does not fail: versions are read without importing the packages, torch is imported only if there may be a
GPU, and whatever cannot be found out is left out.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twincar.core.extras import installed_version, packages_by_extra
from twincar.core.machine import Cpu, describe_cpu
from twincar.core.options import EngineName
from twincar.core.version import __version__

_ENVIRONMENT = (
    "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "RANK",
    "WORLD_SIZE", "OMP_NUM_THREADS", "TWINCAR_ALLOCATOR", "NO_COLOR",
)  # fmt: skip
_SECRETS = ("HF_TOKEN",)
_PASSWORD = re.compile(r"//[^/@]*@")
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Extra:
    """One extra of the installation."""

    name: str
    """As in `pip install 'twincar[train]'`; empty for the packages that are always installed."""
    packages: dict[str, str | None]
    """Installed versions by package; None if a package is missing."""

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package, version in self.packages.items() if version is None]


@dataclass(frozen=True)
class Gpus:
    """Accelerators, and a note on how they were found."""

    names: list[str]
    note: str


@dataclass(frozen=True)
class Cache:
    """A download cache and its size."""

    folder: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Info:
    """The result of `info`."""

    version: str
    folder: str
    """Where the package is installed."""
    python: str
    system: str
    cpu: Cpu
    gpus: Gpus
    extras: list[Extra]
    engines: dict[str, EngineName | None]
    """The engine that `--engine auto` chooses for each kind of model; None if it is not installed."""
    hub_cache: Cache
    environment: dict[str, str]
    """Relevant environment variables that are set; for secrets only the word 'set'."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def info() -> Info:
    """Find out what is installed, on which devices it runs and where the caches are."""
    return Info(
        version=__version__,
        folder=str(Path(__file__).parents[1]),
        python=platform.python_version(),
        system=platform.platform(terse=True),
        cpu=describe_cpu(),
        gpus=_gpus(),
        extras=[
            Extra(name, {package: installed_version(package) for package in packages})
            for name, packages in packages_by_extra().items()
        ],
        engines=_engines(),
        hub_cache=_measured(_hub_cache()),
        environment=dict(_environment()),
    )


def _gpus() -> Gpus:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Gpus(["Apple GPU"], "reported by the system")
    tool = shutil.which("nvidia-smi")
    if not tool and not _NVIDIA.exists():
        return Gpus([], "no NVIDIA driver found, so torch was not imported")
    try:
        import torch  # seconds; only where there may be a GPU
    except (ImportError, OSError):
        return Gpus(_ask_driver(tool), "reported by the NVIDIA driver; torch, which would use them, is not installed")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Gpus(names, "usable by torch" if names else "an NVIDIA driver is installed, but torch finds no usable GPU")


def _ask_driver(tool: str | None) -> list[str]:
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]


def _engines() -> dict[str, EngineName | None]:
    """The same choice as in `twincar.models.engines.open.open_engine`."""
    torch: EngineName | None = "torch" if _is_installed("torch") else None
    onnx: EngineName | None = "onnxruntime" if _is_installed("onnxruntime") else None
    openvino: EngineName | None = "openvino" if _is_installed("openvino") else None
    return {
        "run folder, .safetensors, .pth": torch,
        ".onnx": onnx,
        ".onnx, int8": openvino or onnx,
        "OpenVINO folder": openvino,
    }


def _hub_cache() -> Path:
    """The cache folder that `huggingface_hub` uses."""
    if not _is_installed("huggingface_hub"):
        return Path("~/.cache/huggingface/hub").expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _measured(folder: Path) -> Cache:
    """Count files and bytes below `blobs`, where the hub keeps each file once."""
    sizes = []
    for blob in folder.glob("*/blobs/*"):
        try:
            sizes.append(blob.stat().st_size)
        except OSError:  # another process has just removed it
            continue
    return Cache(str(folder), len(sizes), sum(sizes))


def _environment() -> Iterable[tuple[str, str]]:
    for name in _ENVIRONMENT:
        if value := os.environ.get(name):
            yield name, "set" if name in _SECRETS else _PASSWORD.sub("//", value)


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None
