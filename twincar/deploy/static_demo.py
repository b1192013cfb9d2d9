"""Write the demo as a folder of files that any web server can serve: the visitor's browser computes everything.

>>> from twincar.deploy.static_demo import write_static_demo
>>> write_static_demo("runs/toycars/model-fp32.onnx", Path("page"))                  # doctest: +SKIP

The page (`assets/static_demo/`) consists of ES modules: `pixels.js` reads and resizes photos, `detector.js` finds the
cars, `classifier.js` names them, each as its counterpart in Python does; `worker.js` runs them off the page's thread,
and `sw.js` keeps the files for the next visit. What Python knows about the model and its classes is in `settings.json`.
"""

from __future__ import annotations

import gzip
import html
import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from twincar.core.errors import UsageError
from twincar.core.files import is_free, sha256_of, working_folder, write_bytes, write_text
from twincar.core.options import DetectOptions, Thresholds
from twincar.core.portable import rename_folder
from twincar.deploy.examples import find_examples, pixels_only
from twincar.deploy.web_runtime import read_runtime, runtime_license
from twincar.detection.detector import BUNDLED, Detector
from twincar.inference.crops import CarFinder
from twincar.models.cam.overlay import FALL, HEAT_COLORS, STRONGEST
from twincar.models.engines.onnxruntime_engine import OnnxRuntimeEngine
from twincar.models.levels import ANSWERED, SINGLE, levels_of
from twincar.models.license import License
from twincar.models.locate import find_model
from twincar.models.spec import ModelSpec

_PAGE = resources.files("twincar").joinpath("assets", "static_demo")
_INDEX, _SETTINGS, _FILES = "index.html", "settings.json", "files.js"
TITLE = "Which car is this?"
"""The title that the page has unless it gets another."""
_HASH = 12  # hexadecimal digits of a file's hash in its name


@dataclass(frozen=True)
class StaticDemo:
    """A page that was written."""

    path: Path
    bytes: int
    """What a first visit loads, without examples, bytes."""


def write_static_demo(
    model: str | Path,
    folder: Path,
    *,
    detection: DetectOptions = DetectOptions(),
    examples: Path | None = None,
    runtime: Path | None = None,
    title: str = TITLE,
) -> StaticDemo:
    """Write the page to `folder`.

    Args:
        model: an exported `.onnx` file, or owner/name on the hub.
        folder: a new or an empty folder.
        detection: whether the cars in photos are found first.
        examples: a folder of example photos, of which the first 24 are copied, without the camera's metadata.
        runtime: the npm package of onnxruntime-web as a file, see `read_runtime`; by default npm fetches it.
        title: the title and the heading of the page.

    Raises:
        UsageError: `folder` is not empty, `model` is not an exported file, there are no example photos, or npm cannot
            fetch the runtime.
        PhotoError: an example cannot be read.
        CheckpointError: the model or the detector is damaged, or was not made for TwinCar.
        HubError: the model cannot be downloaded from the hub.
        StorageError: it cannot be written; no files remain.
    """
    if not is_free(folder):
        raise UsageError(f"Expected an empty folder for the page, but found {folder}. Delete it, or name another.")
    path = find_model(model, engine="onnxruntime")
    if path.suffix != ".onnx":
        raise UsageError(
            f"Expected an exported .onnx file for a page that computes in browsers, but found {model}. "
            "Make one: twincar export RUN"
        )
    _, spec = OnnxRuntimeEngine.open(path)
    finder = CarFinder.for_model(spec, detection)
    photos = find_examples(examples) if examples else []
    script, binary = read_runtime(runtime)
    with working_folder(folder) as scratch:
        page = _Page(scratch)
        page.write("onnxruntime/ort.js", script)
        page.write_other("onnxruntime/LICENSE.txt", runtime_license().encode())
        files = {"runtime": page.write_large("onnxruntime/ort.wasm", binary)}
        files["model"] = page.write_large("model.onnx", path.read_bytes())
        if finder:
            files["detector"] = page.write_large("detector.onnx", Path(detection.detector or BUNDLED).read_bytes())
        settings = {
            "model": _model_settings(spec),
            "detector": _detector_settings(finder.detector) if finder else None,
            "heat": {"colors": HEAT_COLORS, "strongest": STRONGEST, "fall": FALL},
            "files": files,
            "examples": [page.write_example(number, photo) for number, photo in enumerate(photos, start=1)],
            "notices": _write_notices(page, spec, bundled=bool(finder) and detection.detector is None),
        }
        page.write_sources(title)
        page.write(_SETTINGS, json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode())
        page.finish()
        rename_folder(scratch, folder)
    return StaticDemo(folder, page.size + sum(file["bytes"] for file in files.values()))


@dataclass
class _Page:
    """The files that are written."""

    folder: Path
    needed: dict[str, str] = field(default_factory=dict)
    """Hashes of the small files that every visit loads, by name."""
    others: list[str] = field(default_factory=list)
    """Names of the files that are loaded when they are asked for."""
    size: int = 0
    """Of the small files, bytes."""

    def write(self, name: str, data: bytes) -> None:
        """A small file that every visit loads."""
        write_bytes(self.folder / name, data)
        self.needed[name] = sha256_of(data)
        self.size += len(data)

    def write_sources(self, title: str) -> None:
        """The files of the page itself, with its title."""
        for source in _PAGE.iterdir():
            data = source.read_bytes()
            if source.name == _INDEX:
                data = data.replace(TITLE.encode(), html.escape(title).encode())
            self.write(source.name, data)

    def write_other(self, name: str, data: bytes) -> None:
        """A file that is loaded when it is needed, and then kept; its name has a hash, unless it is a licence."""
        write_bytes(self.folder / name, data)
        self.others.append(name)

    def write_large(self, name: str, data: bytes) -> dict[str, Any]:
        """A file with its hash in its name, compressed here because hosts do not compress every kind of file."""
        packed = gzip.compress(data, mtime=0)
        named = f"{name}.{sha256_of(data)[:_HASH]}.gz.bin"  # servers would announce a .gz as an encoding
        self.write_other(named, packed)
        return {"name": named, "bytes": len(packed)}

    def write_example(self, number: int, photo: str) -> str:
        """The name of a copy of a photo."""
        data = pixels_only(photo)
        name = f"examples/{number:02d}.{sha256_of(data)[:_HASH]}.jpg"
        self.write_other(name, data)
        return name

    def finish(self) -> None:
        """The list by which the service worker keeps files, and notices new ones."""
        names = {"needed": ["./", *sorted(name for name in self.needed if name != "sw.js")], "others": self.others}
        version = sha256_of(json.dumps(self.needed, sort_keys=True).encode())
        write_text(self.folder / _FILES, f"// version {version}\nconst FILES = {json.dumps(names)};\n")


def _model_settings(spec: ModelSpec) -> dict[str, Any]:
    thresholds = Thresholds()
    levels = levels_of(spec.classes).items()
    return {
        "classes": spec.classes.to_rows(),
        "preprocessing": asdict(spec.preprocessing),
        "leastSide": spec.preprocessing.least_side,
        "margin": spec.margin,
        "calibration": asdict(spec.calibration),
        "calibrated": spec.calibration.is_fitted,
        "levels": {name: {"groups": level.groups, "groupOf": level.group_of.tolist()} for name, level in levels},
        "answered": ANSWERED,
        "single": SINGLE,
        "minConfidence": thresholds.min_confidence,
        "falseRejection": thresholds.false_rejection,
    }


def _detector_settings(detector: Detector) -> dict[str, Any]:
    height, width = detector.input_size
    return {**asdict(detector.header), "height": height, "width": width}


def _write_notices(page: _Page, spec: ModelSpec, *, bundled: bool) -> list[dict[str, str]]:
    """What the page says about licences, each with the file of its text."""
    license = License.of(spec)
    notice = spec.license_notice.strip() or f"Its weights: {license.weights}"
    page.write_other("LICENSE-model.txt", f"{notice}\n\nIts data: {license.data}\n".encode())
    notices = [{"text": f"Weights of the model: {license.weights}", "file": "LICENSE-model.txt"}]
    if bundled:
        page.write_other("LICENSE-detector.txt", BUNDLED.with_name("LICENSE").read_bytes())
        notices.append({"text": "Weights of the detector: apache-2.0.", "file": "LICENSE-detector.txt"})
    return [*notices, {"text": "onnxruntime-web, which computes them: MIT.", "file": "onnxruntime/LICENSE.txt"}]
