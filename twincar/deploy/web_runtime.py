"""onnxruntime-web, which computes networks in a browser; from npm, of one version, checked by its hash. Torch-free.

It is a package of npm's registry and not of Python's, and with 14 MB too large to be part of this one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from importlib import resources
from io import BytesIO
from pathlib import Path

from twincar.core.errors import UsageError, reason

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# Of the package, as its registry lists it too (npm view onnxruntime-web@1.30.0 dist.integrity).
_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
_SCRIPT, _BINARY = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
_SAID = 3  # lines of npm that are repeated
_OTHERWISE = f"fetch it where there is npm (npm pack {PACKAGE}@{VERSION}), and name the file: --runtime FILE"


def read_runtime(package: Path | None = None) -> tuple[bytes, bytes]:
    """The script and the WebAssembly binary of onnxruntime-web, for the CPU, with SIMD and threads.

    Args:
        package: the file that `npm pack` writes; by default npm fetches it, or takes it from its cache.

    Raises:
        UsageError: npm is not installed or cannot fetch it, there is no such file, or it is another one.
    """
    data = _read(package) if package else _pack()
    if hashlib.sha512(data).hexdigest() != _SHA512:
        raise UsageError(
            f"Expected {PACKAGE} {VERSION} as it was published in {package or 'what npm fetched'}, but its SHA-512 "
            f"differs. Remove it, and {_OTHERWISE}"
        )
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        return _member(archive, _SCRIPT), _member(archive, _BINARY)


def runtime_license() -> str:
    """The licence of onnxruntime, which is that of onnxruntime-web too, with those of what it contains."""
    installed = resources.files("onnxruntime")
    texts = [installed.joinpath(name).read_text(encoding="utf-8") for name in ("LICENSE", "ThirdPartyNotices.txt")]
    return f"{PACKAGE} {VERSION}, of https://github.com/microsoft/onnxruntime\n\n" + "\n\n".join(texts)


def _read(package: Path) -> bytes:
    try:
        return package.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Expected {PACKAGE} {VERSION} in {package}, but it cannot be read: {reason(error)}. If there is none, "
            f"{_OTHERWISE}"
        ) from None


def _pack() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(
            f"Expected npm, which fetches {PACKAGE} {VERSION}, but it is not installed. Install it. Otherwise: "
            f"{_OTHERWISE}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            npm,
            "pack",
            "--prefer-offline",
            "--loglevel=error",
            "--pack-destination",
            scratch,
            f"{PACKAGE}@{VERSION}",
        ]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        files = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not files:
            said = " ".join((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[:_SAID]).rstrip(".")
            raise UsageError(
                f"Expected npm to fetch {PACKAGE} {VERSION}, but it failed: {said}. Otherwise: {_OTHERWISE}"
            )
        return files[0].read_bytes()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None  # the hash says so
    return file.read()
