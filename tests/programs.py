"""Runs the programs of `benchmarks` and `tests.robustness` in the process of a test."""

from __future__ import annotations

import io
import runpy
import sys
import warnings
from contextlib import redirect_stdout

import pytest


def run(module: str, *arguments: object) -> str:
    """What `python -m module ...` prints, in this process, whose imports are done."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the module is imported already
        patch.setattr(sys, "argv", [module, *map(str, arguments)])
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise
    return told.getvalue()
