"""What this installation is and can do: versions, extras, devices, engines, caches, environment.

Quick and never in the way: versions are read without importing the packages, and torch is imported only where a GPU
may be and torch is there to ask. What cannot be found out is left out.
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
from twincar.core.machine import available_cores
from twincar.core.options import EngineName
from twincar.core.version import __version__

_ENVIRONMENT = (
    "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "RANK",
    "WORLD_SIZE", "OMP_NUM_THREADS", "TWINCAR_ALLOCATOR", "NO_COLOR",
)  # fmt: skip
_SECRETS = ("HF_TOKEN",)
_PASSWORD = re.compile(r"//[^/@]*@")
_SPEEDUPS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Extra:
    """One part of the installation."""

    name: str
    """As in `pip install 'twincar[train]'`; empty for what always comes along."""
    packages: dict[str, str | None]
    """Versions; None where a package is missing."""

    @property
    def missing(self) -> list[str]:
        """Packages that are not there."""
        return [package for package, version in self.packages.items() if version is None]


@dataclass(frozen=True)
class Cpu:
    """The processor."""

    model: str
    cores: int
    """That this process may use."""
    speedups: list[str]
    """Instructions that make networks quick, as far as the system tells."""


@dataclass(frozen=True)
class Gpus:
    """Accelerators, and who told of them."""

    names: list[str]
    note: str


@dataclass(frozen=True)
class Cache:
    """A folder of what was downloaded."""

    folder: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Info:
    """All of it."""

    version: str
    folder: str
    """Of the package."""
    python: str
    system: str
    cpu: Cpu
    gpus: Gpus
    extras: list[Extra]
    engines: dict[str, EngineName | None]
    """What answers for each kind of model with `--engine auto`; None if that is not installed."""
    hub_cache: Cache
    environment: dict[str, str]
    """Variables that are set and matter here; of secrets only that they are set."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def info() -> Info:
    """Find out what is installed, on which devices it runs and where the caches are."""
    return Info(
        version=__version__,
        folder=str(Path(__file__).parent),
        python=platform.python_version(),
        system=platform.platform(terse=True),
        cpu=_cpu(),
        gpus=_gpus(),
        extras=[
            Extra(name, {package: installed_version(package) for package in packages})
            for name, packages in packages_by_extra().items()
        ],
        engines=_engines(),
        hub_cache=_measured(_hub_cache()),
        environment=dict(_environment()),
    )


def _cpu() -> Cpu:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (told.get("flags") or told.get("Features") or "").split()
    model = told.get("model name") or platform.processor() or platform.machine()
    return Cpu(model, available_cores(), [flag for flag in _SPEEDUPS if flag in flags])


def _gpus() -> Gpus:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Gpus(["Apple GPU"], "told by the system")
    tool = shutil.which("nvidia-smi")
    if not tool and not _NVIDIA.exists():
        return Gpus([], "no NVIDIA driver here, so torch was not asked")
    try:
        import torch  # seconds; only where there may be a GPU
    except (ImportError, OSError):
        return Gpus(_ask_driver(tool), "told by the NVIDIA driver; there is no torch to use them")
    names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return Gpus(names, "usable by torch" if names else "an NVIDIA driver is here, but torch finds no GPU to use")


def _ask_driver(tool: str | None) -> list[str]:
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in asked.stdout.splitlines() if line.strip()]


def _engines() -> dict[str, EngineName | None]:
    """See `twincar.models.engines.open.open_engine` for the choice."""
    torch: EngineName | None = "torch" if _is_there("torch") else None
    onnx: EngineName | None = "onnxruntime" if _is_there("onnxruntime") else None
    openvino: EngineName | None = "openvino" if _is_there("openvino") else None
    return {
        "run folder, .safetensors, .pth": torch,
        ".onnx": onnx,
        ".onnx, int8": openvino or onnx,
        "OpenVINO folder": openvino,
    }


def _hub_cache() -> Path:
    """As `huggingface_hub` chooses it."""
    if not _is_there("huggingface_hub"):
        return Path("~/.cache/huggingface/hub").expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _measured(folder: Path) -> Cache:
    """Files are counted where the hub keeps them once, below `blobs`."""
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


def _is_there(module: str) -> bool:
    return find_spec(module) is not None
