"""Hostile input to libraries that are large, and to a server for seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.serve_load import serving
from tests.robustness import fuzz_targets
from tests.robustness.fuzz import fuzz
from tests.robustness.fuzz_models import small_onnx, spec_text
from tests.robustness.soak_server import soak
from tests.robustness.test_fuzz import APART, CORPUS, INPUTS
from twincar.core.labels import slug


@pytest.mark.parametrize("name", APART)
def test_hostile_input_to_large_libraries(name: str, tmp_path: Path) -> None:
    found = fuzz(name, 3 * INPUTS, 7, tmp_path, guided=False, tell=print, corpus=CORPUS / slug(name))
    assert found.faults == {}
    assert found.inputs >= 3 * INPUTS


def test_the_server_stays_as_it_is_under_good_and_bad_requests(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(small_onnx(spec_text()))
    with serving(tmp_path / "model.onnx") as (pid, address):
        seen = soak(address, pid, list(fuzz_targets.photos()), 4, patient=False)
    assert seen.undeserved == []
    assert seen.requests > 200
    assert seen.files_idle[1] <= seen.files_idle[0]
    assert min(seen.memory[-3:]) < min(seen.memory[:3]) + 100  # MiB; what two uploads hold comes and goes
