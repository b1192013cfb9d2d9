"""Values in, self-contained HTML pages out; the only user of Jinja.

A page is one file that opens offline: styles, pictures and scripts are inside. Names and paths are escaped by the
templates (`assets/pages/`), where every value is text unless it comes from here as `Markup`.

Shapes: H×W pixels of a photo.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

_QUALITY = 80  # of the pictures inside a page


def render(template: str, **values: Any) -> str:
    """The page of a template in `assets/pages/`, such as 'report.html.jinja'."""
    return _environment().get_template(template).render(**values)


def picture_uri(picture: Image.Image | NDArray[np.uint8], longest: int = 320) -> str:
    """A picture as a `data:` address, no side longer than `longest` pixels.

    Args:
        picture: RGB, or H×W×3.
        longest: pixels; smaller pictures stay as they are.
    """
    image = (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"


def percent(share: float, digits: int = 1) -> str:
    """A share as people read it.

    >>> percent(0.9312)
    '93.1%'
    """
    return f"{share:.{digits}%}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("twincar", "assets/pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment
