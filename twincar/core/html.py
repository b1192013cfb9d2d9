"""Self-contained HTML pages from templates; the only module that uses Jinja and Plotly's script.

A page is one file that opens offline: it contains its styles, pictures and scripts, and its content security policy
forbids the browser to load anything else. The templates (`assets/pages/`) escape every value that is not `Markup`.

Shapes: H×W pixels of a photo.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from twincar.core.photos import encode_photo
from twincar.core.wording import counted, number, percent

_QUALITY = 80  # of the pictures inside a page


def render(template: str, **values: Any) -> str:
    """Render a template in `assets/pages/`, such as 'report.html.jinja'."""
    return environment("pages").get_template(template).render(**values)


def picture_uri(picture: Image.Image | NDArray[np.uint8], longest: int = 320) -> str:
    """A picture as a `data:` URI, with no side longer than `longest` pixels.

    Args:
        picture: RGB, or H×W×3.
        longest: pixels; smaller pictures stay as they are.
    """
    image = (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    data = encode_photo(image, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def script_json(value: object) -> Markup:
    """A value as JSON for `<script type="application/json">`, escaped so that no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def plotly_script() -> Markup:
    """Plotly's own script, 4.8 MB: the only bundle in its package that works alone."""
    script = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    return Markup(script)


@cache
def environment(folder: str, *, autoescape: bool = True, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """The Jinja environment for the templates in `assets/<folder>`; see jinja2 for the arguments."""
    made = Environment(
        loader=PackageLoader("twincar", f"assets/{folder}"),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "number": number, "counted": counted}
    return made
