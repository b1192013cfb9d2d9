"""A page to try a model in: a photo in; out comes the answer, what it looked at, and its nearest look-alike.

>>> from twincar.deploy.demo import demo
>>> demo("runs/toycars/model-fp32.onnx", examples=Path("photos"))                    # doctest: +SKIP

Nothing is kept of who looks: every answer is made from the photo alone, so that two people never meet. The page asks no
other machine for anything, and what is shown is escaped by the templates (`assets/pages/demo_*.html.jinja`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import resources
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when it is imported
import gradio as gr
import numpy as np
from PIL import Image
from starlette.middleware import Middleware

from twincar.core.errors import PhotoError, UsageError
from twincar.core.html import picture_uri, render
from twincar.core.listing import find_photos
from twincar.core.photos import decode_photo, read_photo
from twincar.core.wording import percent
from twincar.deploy.demo_access import PageOnly, own_folder, read_upload
from twincar.deploy.loopback import LoopbackHosts, is_loopback
from twincar.inference.classifier import Classifier
from twincar.inference.results import Explanation, Prediction
from twincar.models.cam.overlay import heat_overlay, is_darkened

MAX_BYTES = 50_000_000
"""Largest photo that may be sent."""

_EXAMPLES = 24  # are shown; all of a large folder would be copied at the start
_LONGEST = 800  # pixels of a heat map's longer side
_LOOK_ALIKE = 0.001  # probability from which the next car is one
_KEPT_SECONDS = 3600  # an uploaded photo stays so long
_UNKNOWN, _NOT_CALIBRATED = "not a car this model knows", "not calibrated"
_NOT_TOLD = {
    "model and body": "which model year",
    "model": "which body and year",
    "make and body": "which model",
    "make": "which model",
    "body": "which make and model",
}


def demo(
    model: str,
    *,
    examples: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM; the uploads are then deleted.

    Args:
        model: what `Classifier.load` takes.
        examples: a folder of photos to click, of which the first 24 are shown.
        host: address to listen at; this computer only, or what GRADIO_SERVER_NAME says, unless given.
        port: the first free one from 7860 on, or what GRADIO_SERVER_PORT says, unless given.
        on_start: called with the page's address once it answers.

    Raises:
        UsageError: nothing is there, no photo is among the examples, or the port is taken.
        PhotoError: an example cannot be read.
        CheckpointError: the model is damaged, not safe to open, or does not fit.
        MissingExtraError: what computes it is not installed.
    """
    classifier, photos = Classifier.load(model), find_examples(examples) if examples else []
    with own_folder() as uploads:
        page = build_page(classifier, photos, uploads)
        address = launch(page, uploads, host=host, port=port)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # by itself it would leave the uploads
        try:
            if on_start:
                on_start(address)
            page.server.thread.join()
        finally:
            signal.signal(signal.SIGTERM, before)
            page.close(verbose=False)


def find_examples(folder: Path) -> list[str]:
    """The first photos in a folder, each of which can be read.

    Raises:
        UsageError: there is none.
        PhotoError: one cannot be read.
    """
    photos = list(islice(find_photos([str(folder)]), _EXAMPLES))
    for photo in photos:
        read_photo(photo)
    return photos


class _Page(gr.Blocks):
    """A page to which clients can only name uploads."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Leave nothing of what a client sends but the names of a file, which `read_upload` judges.

        Gradio itself would fetch an address and copy files, but check a path only where the client asks for it.
        """
        named = [_named(sent) for sent in inputs]
        values: list[Any] = await super().preprocess_data(block_fn, named, state, explicit_call)
        return values


def _named(sent: Any) -> Any:
    if sent is None or isinstance(sent, int):  # the place of an example
        return sent
    values = sent if isinstance(sent, dict) else {}
    return {name: values[name] for name in ("path", "orig_name") if isinstance(values.get(name), str)}


def build_page(classifier: Classifier, examples: list[str], uploads: Path) -> gr.Blocks:
    """The page, not yet served.

    Args:
        classifier: what answers.
        examples: paths of photos to click.
        uploads: the folder of `own_folder`.
    """

    def answer(sent: dict[str, Any] | None) -> tuple[Any, Any]:
        """The answer, and the photo's place emptied if it is none; nothing changes while there is no photo."""
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
        # Gradio would open the photo itself, and answer a bad one with a red "Error".
        photo.change(answer, photo, [shown, photo], preprocess=False, api_name="answer", show_progress_on=shown)
        photo.clear(_first_page, None, shown, api_visibility="private")
    return page


def launch(page: gr.Blocks, uploads: Path, *, host: str | None, port: int | None) -> str:
    """Serve a page in the background; returns its address.

    Args:
        page: of `build_page`.
        uploads: the folder it was built with.
        host: address to listen at; as Gradio chooses it unless given.
        port: the first free one from 7860 on unless given.

    Raises:
        UsageError: the port is taken, or not at that host.
    """
    script = Template(_asset("demo.js")).substitute(max_bytes=MAX_BYTES)
    system = (gr.themes.Font("system-ui"), gr.themes.Font("sans-serif"))  # strings would be fetched
    theme = gr.themes.Default(primary_hue="sky", font=system, font_mono=(gr.themes.Font("monospace"),))
    guards = [Middleware(PageOnly, folder=uploads)]
    if is_loopback(host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"):
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
            css=_asset("demo.css"),
            head=f"<script>{script}</script>",
            app_kwargs={"middleware": guards},
        )
    except OSError as error:
        where = f"port {port}" if port else "a port from 7860 on"
        raise UsageError(
            f"Expected {where} to be free at {host or 'this computer'}, but it is taken or not to be had. "
            "Choose another: --port"
        ) from error
    return address


def answer_page(classifier: Classifier, photo: Image.Image) -> str:
    """HTML of the answer for an upright RGB photo, with what speaks for the likeliest class and for the next one."""
    first = classifier.explain(photo)
    prediction = first.prediction
    near = [candidate for candidate in prediction.topk[1:2] if candidate.probability >= _LOOK_ALIKE]
    others = [classifier.explain(photo, target=candidate.name) for candidate in near]
    return _page(
        **_wording(prediction, classifier),
        prediction=prediction,
        facts=_facts(prediction),
        heats=[(explained.target, _heat_picture(photo, explained)) for explained in (first, *others)],
        partly_seen=is_darkened(*photo.size, first.visible_box),
    )


def _wording(prediction: Prediction, classifier: Classifier) -> dict[str, str]:
    """State, chip, headline and text of an answer."""
    answer = prediction.answer
    if prediction.reason == _UNKNOWN:
        text = (
            f"It looks less like one than {1 - classifier.false_rejection:.0%} of the photos the model was checked "
            "with. What is below is what it would have said."
        )
        return {"state": "unknown", "chip": "No answer", "headline": "Not a car this model knows", "text": text}
    if prediction.reason == _NOT_CALIBRATED:
        text = "Nobody knows how probable this model's answers are. The likeliest cars are below."
        return {"state": "unsure", "chip": "Not sure", "headline": "This model is not calibrated", "text": text}
    if answer is None:
        text = f"No make, model or body is {classifier.min_confidence:.0%} probable. The likeliest cars are below."
        return {"state": "unsure", "chip": "Not sure", "headline": "Not sure which car this is", "text": text}
    sure = f"{percent(answer.probability)} sure"
    if answer.level not in _NOT_TOLD:
        return {"state": "sure", "chip": sure, "headline": answer.name, "text": ""}
    text = f"{_NOT_TOLD[answer.level].capitalize()} is open: {_any_of(answer.alternatives)}."
    return {"state": "partly", "chip": f"{sure} of {answer.level}", "headline": answer.name, "text": text}


def _refusal_page(error: PhotoError) -> str:
    return _page(state="refused", chip="No photo", headline="This cannot be read as a photo", text=str(error))


def _first_page() -> str:
    text = "Choose, drop or paste a photo of one car, or take one with the camera."
    return _page(state="empty", chip="Ready", headline="Waiting for a photo", text=text)


def _page(
    *,
    state: str,
    chip: str,
    headline: str,
    text: str,
    prediction: Prediction | None = None,
    facts: list[tuple[str, str, float]] | None = None,
    heats: list[tuple[str, str]] | None = None,
    partly_seen: bool = False,
) -> str:
    return render(
        "demo_answer.html.jinja",
        state=state,
        chip=chip,
        headline=headline,
        text=text,
        prediction=prediction,
        facts=facts or [],
        heats=heats or [],
        partly_seen=partly_seen,
    )


def _facts(prediction: Prediction) -> list[tuple[str, str, float]]:
    """What is told one by one, with its probability; the model without the make, which stands beside it."""
    if prediction.reason == _UNKNOWN:
        return []
    make = next((f"{found.name} " for found in prediction.levels if found.level == "make"), "")
    return [
        (found.level, found.name.removeprefix(make) if found.level == "model" else found.name, found.probability)
        for found in prediction.levels
    ]


def _heat_picture(photo: Image.Image, explained: Explanation) -> str:
    """The photo, made small, under its heat map, as a `data:` address."""
    small = photo.copy()
    small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    left, top, right, bottom = (edge * small.width / photo.width for edge in explained.visible_box)
    return picture_uri(heat_overlay(np.asarray(small), explained.heatmap, (left, top, right, bottom)), _LONGEST)


def _any_of(names: tuple[str, ...]) -> str:
    """
    >>> _any_of(("A", "B", "C"))
    'A, B or C'
    """
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _asset(name: str) -> str:
    return resources.files("twincar").joinpath(f"assets/pages/{name}").read_text(encoding="utf-8")
