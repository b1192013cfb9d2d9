"""Write the demo as a folder of files that any web server can serve: the visitor's browser computes everything.

>>> from twincar.deploy.static_demo import write_static_demo
>>> write_static_demo("runs/toycars/model-fp32.onnx", Path("page"))                  # doctest: +SKIP

The page (`assets/static_demo/`) consists of ES modules: `pixels.js` reads and resizes photos, `detector.js` finds the
cars, `classifier.js` names them, each as its counterpart in Python does; `worker.js` runs them off the page's thread,
and `sw.js` keeps the files for the next visit. What Python knows about the model and its classes is in `settings.json`.

A page may replace another at the same address, whatever caches keep: its modules are in a folder that is named by their
content, large files have their hash in their name, and the version is in `sw.js`, which browsers compare at each visit.
`start.js` registers it; it stands outside of the folder, so that it also runs where a cache has an old `index.html`.
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
from twincar.core.files import is_free, sha256_of, working_folder, write_bytes
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
_INDEX, _START, _WORKER, _SETTINGS = "index.html", "start.js", "sw.js", "settings.json"
_FOLDER = "VERSION"
"""What the page calls the folder of its modules, until that has its name."""
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
        page.add("onnxruntime/ort.js", script)
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
        page.add(_SETTINGS, json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode())
        page.finish(title)
        rename_folder(scratch, folder)
    return StaticDemo(folder, page.size + sum(file["bytes"] for file in files.values()))


@dataclass
class _Page:
    """The files that are written."""

    folder: Path
    modules: dict[str, bytes] = field(default_factory=dict)
    """The small files of this version by name; they are written when all of them are known."""
    needed: list[str] = field(default_factory=list)
    """Names of the small files that every visit loads."""
    others: list[str] = field(default_factory=list)
    """Names of the files that are loaded when they are asked for."""
    texts: dict[str, str] = field(default_factory=dict)
    """Hashes of the files that have the same name in every version, by name."""
    size: int = 0
    """Of the small files, bytes."""

    def add(self, name: str, data: bytes) -> None:
        """A small file for the folder of this version."""
        self.modules[name] = data

    def write_root(self, name: str, data: bytes) -> None:
        """A small file that has the same name in every version."""
        self.texts[name] = sha256_of(data)
        self._write_needed(name, data)

    def _write_needed(self, name: str, data: bytes) -> None:
        write_bytes(self.folder / name, data)
        self.needed.append(name)
        self.size += len(data)

    def write_other(self, name: str, data: bytes) -> None:
        """A file that is loaded when it is needed, and then kept; its name has a hash."""
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

    def finish(self, title: str) -> None:
        """Write the page itself, and the list by which the service worker keeps files, and browsers notice new ones."""
        sources = {source.name: source.read_bytes() for source in _PAGE.iterdir()}
        sources[_INDEX] = sources[_INDEX].replace(TITLE.encode(), html.escape(title).encode())
        hashes = {name: sha256_of(data) for name, data in (sources | self.modules).items()} | self.texts
        version = sha256_of(json.dumps(hashes, sort_keys=True).encode())[:_HASH]
        index = sources.pop(_INDEX).replace(f"{_FOLDER}/".encode(), f"{version}/".encode())
        start, worker = sources.pop(_START), sources.pop(_WORKER)
        write_bytes(self.folder / _INDEX, index)  # the service worker keeps the one that no cache mistakes for another
        self._write_needed(_START, start)
        for name, data in ({_INDEX: index} | sources | self.modules).items():
            self._write_needed(f"{version}/{name}", data)
        files = {"page": f"{version}/{_INDEX}", "needed": self.needed, "others": self.others}
        write_bytes(self.folder / _WORKER, f"const FILES = {json.dumps(files)};\n\n".encode() + worker)


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


def _terms(license: License) -> str:
    """The licence of the weights for visitors, who know nothing of a publisher."""
    if license.id is None or license.name is not None:
        return license.weights
    return f"{license.id}, not for commercial use." if "-nc" in license.id else f"{license.id}."


def _write_notices(page: _Page, spec: ModelSpec, *, bundled: bool) -> list[dict[str, str]]:
    """What the page says about licences, each with the file of its text."""
    license = License.of(spec)
    notice = spec.license_notice.strip() or f"Its weights: {license.weights}"
    page.write_root("LICENSE-model.txt", f"{notice}\n\nIts data: {license.data}\n".encode())
    notices = [{"text": f"Weights of the model: {_terms(license)}", "file": "LICENSE-model.txt"}]
    if bundled:
        page.write_root("LICENSE-detector.txt", BUNDLED.with_name("LICENSE").read_bytes())
        notices.append({"text": "Weights of the detector: apache-2.0.", "file": "LICENSE-detector.txt"})
    text = runtime_license().encode()
    name = f"onnxruntime/LICENSE.{sha256_of(text)[:_HASH]}.txt"
    page.write_other(name, text)
    return [*notices, {"text": "onnxruntime-web, which computes them: MIT.", "file": name}]
