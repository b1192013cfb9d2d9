"""The demo: a web page that shows the answer for a photo, its heatmap, and the next most likely car.

>>> from twincar.deploy.demo import demo
>>> demo("runs/toycars/model-fp32.onnx", examples=Path("photos"))                    # doctest: +SKIP

The page keeps no state of its users: every answer depends on the photo alone. It loads nothing from other machines, and
everything shown is escaped by the templates (`assets/pages/demo_*.html.jinja`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.middleware import Middleware

from twincar.core.errors import PhotoError, UsageError
from twincar.core.files import read_asset
from twincar.core.html import picture_uri, render
from twincar.core.options import DetectOptions
from twincar.core.photos import Box, decode_photo
from twincar.core.wording import percent
from twincar.deploy.demo_access import PageOnly, own_folder, read_upload
from twincar.deploy.examples import find_examples
from twincar.deploy.loopback import LoopbackHosts, is_loopback
from twincar.inference.classifier import Classifier
from twincar.inference.crops import PreparedCrop
from twincar.inference.results import Prediction, Status
from twincar.models.cam.overlay import heat_overlay, is_darkened

log = logging.getLogger(__name__)

MAX_BYTES = 50_000_000
"""Largest photo that may be uploaded, bytes."""

_LONGEST = 800  # longer side of a heatmap, pixels
_CARS = 12  # cars of a photo that are shown; each has heatmaps of its own
_LOOK_ALIKE = 0.001  # least probability of the second candidate for a second heatmap
_KEPT_SECONDS = 3600  # time after which an uploaded photo is deleted
_STILL_OPEN = {
    "model and body": "which model year",
    "model": "which body and year",
    "make and body": "which model",
    "make": "which model",
    "body": "which make and model",
}


def demo(
    model: str,
    *,
    detection: DetectOptions = DetectOptions(),
    examples: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM; the uploads are then deleted.

    Args:
        model: as for `Classifier.load`, also for the next.
        detection: whether the cars in photos are found first.
        examples: a folder of example photos, of which the first 24 are shown.
        host: address to listen on; by default GRADIO_SERVER_NAME, or this computer only.
        port: by default GRADIO_SERVER_PORT, or the first free port from 7860.
        on_start: called with the page's address once it is served.

    Raises:
        UsageError: there is no such model, there are no example photos, or the port is taken.
        PhotoError: an example cannot be read.
        CheckpointError: the model is damaged, not safe to open, or does not fit.
        MissingExtraError: its engine is not installed.
    """
    classifier, photos = Classifier.load(model, detection=detection), find_examples(examples) if examples else []
    with own_folder() as uploads:
        page = build_page(classifier, photos, uploads)
        address = launch(page, uploads, host=host, port=port)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # by default it would not delete the uploads
        try:
            if on_start:
                on_start(address)
            if not _is_local(host):
                log.warning("There is no login: whoever reaches this page can send photos to this computer.")
            page.server.thread.join()
        finally:
            signal.signal(signal.SIGTERM, before)
            page.close(verbose=False)


def _is_local(host: str | None) -> bool:
    """Whether only this computer can reach the page."""
    return is_loopback(host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1")


class _Page(gr.Blocks):
    """A page whose clients can refer to uploads only."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Keep only the names of a file from what a client sends; `read_upload` checks them.

        Gradio itself would download URLs and copy files, and check a path only if the client requests that.
        """
        named = [_named(sent) for sent in inputs]
        values: list[Any] = await super().preprocess_data(block_fn, named, state, explicit_call)
        return values


def _named(sent: Any) -> Any:
    if sent is None or isinstance(sent, int):  # the index of an example
        return sent
    values = sent if isinstance(sent, dict) else {}
    return {name: values[name] for name in ("path", "orig_name") if isinstance(values.get(name), str)}


def build_page(classifier: Classifier, examples: list[str], uploads: Path) -> gr.Blocks:
    """Build the page without serving it.

    Args:
        classifier: the model.
        examples: paths of example photos.
        uploads: the folder of `own_folder`.
    """

    def answer(sent: dict[str, Any] | None) -> tuple[Any, Any]:
        """Update the answer, and clear the photo if it cannot be read; nothing changes if there is no photo."""
        if sent is None:
            return gr.skip(), gr.skip()
        try:
            data = read_upload(sent["path"], uploads, max_bytes=MAX_BYTES)
            return answer_page(classifier, decode_photo(data, sent["orig_name"] or "the photo")), gr.skip()
        except PhotoError as error:
            return _refusal_page(error), None

    page: gr.Blocks
    with _Page(
        title="TwinCar: which car is this?", analytics_enabled=False, delete_cache=(_KEPT_SECONDS // 6, _KEPT_SECONDS)
    ) as page:
        gr.HTML(render("demo_head.html.jinja", names=sorted(classifier.class_names)), elem_id="head")
        with gr.Row():
            with gr.Column(scale=5, min_width=300):
                photo = gr.Image(
                    sources=["upload", "clipboard", "webcam"], label="Photo", elem_id="photo", height=340, buttons=[]
                )
                gr.HTML('<p id="refused" role="alert" hidden></p>', elem_id="notice")
                if examples:
                    gr.Examples([[path] for path in examples], photo, label="Or click one of these", elem_id="examples")
            with gr.Column(scale=7, min_width=300):
                shown = gr.HTML(_first_page(), elem_id="answer")
        gr.HTML(render("demo_foot.html.jinja"), elem_id="foot")
        # With preprocessing, Gradio would open the photo itself and show only "Error" for a bad one.
        photo.change(answer, photo, [shown, photo], preprocess=False, api_name="answer", show_progress_on=shown)
        photo.clear(_first_page, None, shown, api_visibility="private")
    return page


def launch(page: gr.Blocks, uploads: Path, *, host: str | None, port: int | None) -> str:
    """Serve a page in the background; returns its address.

    Args:
        page: from `build_page`.
        uploads: the folder with which it was built.
        host: address to listen on; by default as Gradio chooses it.
        port: by default the first free one from 7860.

    Raises:
        UsageError: the port is taken or not available at that host.
    """
    script = Template(read_asset("pages/demo.js")).substitute(max_bytes=MAX_BYTES)
    system = (gr.themes.Font("system-ui"), gr.themes.Font("sans-serif"))  # names as plain strings would be downloaded
    theme = gr.themes.Default(primary_hue="sky", font=system, font_mono=(gr.themes.Font("monospace"),))
    guards = [Middleware(PageOnly, folder=uploads)]
    if _is_local(host):
        guards.insert(0, Middleware(LoopbackHosts))
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            max_file_size=MAX_BYTES,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            footer_links=[],
            theme=theme,
            css=read_asset("pages/demo.css"),
            head=f"<script>{script}</script>",
            app_kwargs={"middleware": guards},
        )
    except OSError as error:
        where = f"port {port}" if port else "a port from 7860 on"
        raise UsageError(
            f"Expected {where} to be free at {host or 'this computer'}, but it is taken or not available. "
            "Choose another: --port"
        ) from error
    return address


def answer_page(classifier: Classifier, photo: Image.Image) -> str:
    """HTML of the answers for the cars in an upright RGB photo, with heatmaps for the most likely class and the next.

    If cars were found, the photo is in it with their boxes, and a click on one shows its answer.
    """
    crops = classifier.prepare(photo, "the photo")
    cars = [_car_answer(classifier, photo, crop) for crop in crops[:_CARS]]
    scene = picture_uri(photo, _LONGEST) if crops[0].crop.box else ""
    return render("demo_answer.html.jinja", cars=cars, scene=scene, left_out=len(crops) - len(cars))


def _car_answer(classifier: Classifier, photo: Image.Image, crop: PreparedCrop) -> _Answer:
    """What is shown of one car, or of a photo without one."""
    first = classifier.explain_crop(crop)
    prediction = first.prediction
    if not crop.crop.is_car:
        return _wording(prediction, classifier)
    near = [candidate for candidate in prediction.topk[1:2] if candidate.probability >= _LOOK_ALIKE]
    others = [classifier.explain_crop(crop, target=candidate.name) for candidate in near]
    shown = crop.crop.cut(photo)
    seen = crop.crop.within(first.visible_box)
    return replace(
        _wording(prediction, classifier),
        box=_shares(crop.crop.box, photo),
        prediction=prediction,
        facts=_facts(prediction),
        heats=[(found.target, _heat_picture(shown, found.heatmap, seen)) for found in (first, *others)],
        partly_seen=is_darkened(*shown.size, seen),
    )


def _shares(box: Box | None, photo: Image.Image) -> dict[str, float]:
    """Left, top, width and height of a box in percent of the photo, as CSS takes them."""
    left, top, right, bottom = box or (0, 0, *photo.size)
    x, y = 100 / photo.width, 100 / photo.height
    return {"left": left * x, "top": top * y, "width": (right - left) * x, "height": (bottom - top) * y}


def _wording(prediction: Prediction, classifier: Classifier) -> _Answer:
    """State, chip, headline and text of an answer."""
    answer = prediction.answer
    if prediction.status is Status.NO_CAR:
        text = "Try another photo, or cut this one to the car."
        return _Answer(state="unknown", chip="No answer", headline="No car found", text=text)
    if prediction.status is Status.TOO_SMALL:
        text = (
            f"A car must be at least {classifier.spec.preprocessing.least_side} pixels high and wide for this model: "
            "take a closer or a larger photo. Below is what it would have answered."
        )
        return _Answer(state="unknown", chip="No answer", headline="Too small", text=text)
    if prediction.status is Status.CUT_OFF:
        text = (
            "The edge of the photo cuts off most of this car: take a photo of all of it. Below is what the model would "
            "have answered."
        )
        return _Answer(state="unknown", chip="No answer", headline="Cut off", text=text)
    if prediction.status is Status.UNKNOWN_CAR:
        text = (
            f"It looks less like a car that this model knows than {1 - classifier.false_rejection:.0%} of the "
            "validation photos. Below is what the model would have answered."
        )
        return _Answer(state="unknown", chip="No answer", headline="Unknown car", text=text)
    if prediction.status is Status.NOT_CALIBRATED:
        text = "The probabilities of this model are not reliable. The most likely cars are below."
        return _Answer(state="unsure", chip="Not sure", headline="This model is not calibrated", text=text)
    if answer is None:
        text = f"No make, model or body is {classifier.min_confidence:.0%} probable. The most likely cars are below."
        return _Answer(state="unsure", chip="Not sure", headline="Not sure which car this is", text=text)
    sure = f"{percent(answer.probability)} sure"
    if answer.level not in _STILL_OPEN:
        return _Answer(state="sure", chip=sure, headline=answer.name, text="")
    text = f"{_STILL_OPEN[answer.level].capitalize()} is open: {_any_of(answer.alternatives)}."
    return _Answer(state="partly", chip=f"{sure} of {answer.level}", headline=answer.name, text=text)


def _refusal_page(error: PhotoError) -> str:
    return _note(state="refused", chip="No photo", headline="This cannot be read as a photo", text=str(error))


def _first_page() -> str:
    text = "Choose, drop or paste a photo, or take one with the camera."
    return _note(state="empty", chip="Ready", headline="Waiting for a photo", text=text)


def _note(state: str, chip: str, headline: str, text: str) -> str:
    """A page without an answer."""
    note = _Answer(state=state, chip=chip, headline=headline, text=text)
    return render("demo_answer.html.jinja", cars=[note], scene="", left_out=0)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What the template shows of one car."""

    state: str
    chip: str
    headline: str
    text: str
    box: dict[str, float] | None = None
    """Sides in percent of the photo; None without a photo."""
    prediction: Prediction | None = None
    facts: list[tuple[str, str, float]] = field(default_factory=list)
    heats: list[tuple[str, str]] = field(default_factory=list)
    partly_seen: bool = False


def _facts(prediction: Prediction) -> list[tuple[str, str, float]]:
    """Make, model, body and year with their probabilities; the model without the make, which is shown beside it."""
    make = next((f"{found.name} " for found in prediction.levels if found.level == "make"), "")
    return [
        (found.level, found.name.removeprefix(make) if found.level == "model" else found.name, found.probability)
        for found in prediction.levels
    ]


def _heat_picture(
    photo: Image.Image, heatmap: NDArray[np.float32], visible_box: tuple[float, float, float, float]
) -> str:
    """The photo, resized, with a heatmap over the part that the network saw, as a `data:` URI."""
    small = photo.copy()
    small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    left, top, right, bottom = (edge * small.width / photo.width for edge in visible_box)
    return picture_uri(heat_overlay(np.asarray(small), heatmap, (left, top, right, bottom)), _LONGEST)


def _any_of(names: tuple[str, ...]) -> str:
    """List alternatives in a sentence.

    >>> _any_of(("A", "B", "C"))
    'A, B or C'
    """
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
