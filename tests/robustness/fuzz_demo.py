"""Target of `tests.robustness.fuzz`: what a client sends to the demo's API, whatever file it names."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import httpx

from tests.robustness.fuzz_models import small_onnx, spec_text
from tests.robustness.fuzz_targets import Reader, Target, photos
from twincar.core.errors import TwinCarError


def client_data(scratch: Path) -> Target:
    """A line with the file that a call names, then the rest of its JSON, passed through Gradio to the page."""
    uploads, before = scratch / "uploads", os.environ.get("GRADIO_TEMP_DIR")
    uploads.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # as `own_folder` does
    from starlette.middleware import Middleware

    from twincar.deploy.demo import build_page
    from twincar.deploy.demo_access import PageOnly
    from twincar.inference.classifier import Classifier

    (scratch / "model.onnx").write_bytes(small_onnx(spec_text()))
    (uploads / "car.jpg").write_bytes(photos()[0])
    (uploads / "link.jpg").symlink_to(scratch / "secret.jpg")
    os.mkfifo(uploads / "pipe.jpg")
    page = build_page(Classifier.load(scratch / "model.onnx"), [], uploads)
    from gradio.routes import App

    app = App.create_app(page, app_kwargs={"middleware": [Middleware(PageOnly, folder=uploads)]})
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://localhost/gradio_api/run/answer")
    loop = asyncio.new_event_loop()
    if before is None:
        del os.environ["GRADIO_TEMP_DIR"]
    else:
        os.environ["GRADIO_TEMP_DIR"] = before

    def run(data: bytes) -> None:
        path, _, more = data.replace(b"HERE", str(scratch).encode()).partition(b"\n")
        try:
            photo = {"path": path.decode("latin-1"), "orig_name": "x.jpg", **json.loads(more or b"{}")}
            more = json.dumps({"data": [photo]}).encode()
        except (ValueError, TypeError, RecursionError):
            pass  # what follows the path is the whole body
        answer = loop.run_until_complete(client.post("", content=more, headers={"Content-Type": "application/json"}))
        if answer.status_code != 200 or "uploaded to this page" in answer.text:
            raise TwinCarError("refused")  # as a refused file is
        told = answer.json()["data"][0]
        assert isinstance(told, dict) or "cannot be read as a photo" in told or "<h2>" in told

    meta = b'\n{"meta": {"_type": "gradio.FileData"}, "url": "http://192.0.2.1/x.jpg", "is_stream": false}'
    run(b"HERE/uploads/car.jpg")  # some of what a request needs is imported at the first one
    return Target(
        run,
        [
            b"HERE/uploads/car.jpg",
            b"HERE/uploads/car.jpg" + meta,
            b"HERE/uploads/link.jpg",
            b"HERE/uploads/../secret.jpg" + meta,
            b"HERE/secret.jpg",
            b"HERE/uploads/pipe.jpg" + meta,
            b"/dev/zero",
            b"http://192.0.2.1/x.jpg" + meta,
            b'\n{"data": [null], "fn_index": 0, "session_hash": "x"}',
            b'\n{"data": [[{"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}]], "trigger_id": 1}',
        ],
    )


READERS: dict[str, Reader] = {"demo": Reader(client_data, 3)}
