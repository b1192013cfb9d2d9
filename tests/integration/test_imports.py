"""Importing TwinCar changes nothing in the process of whoever imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = r"""
import ast, importlib, json, logging, os, warnings
from pathlib import Path

def imports(statements):
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield statement.module
        elif isinstance(statement, (ast.With, ast.Try)):
            yield from imports(statement.body)

def state():
    loggers = logging.root.manager.loggerDict.items()
    return {
        "warnings": list(map(str, warnings.filters)),
        "environment": dict(os.environ),
        "threads of OpenCV": cv2.getNumThreads(),
        "levels": {name: logger.level for name, logger in loggers if getattr(logger, "level", 0)},
        "level": logging.root.level,
        "handlers": list(map(str, logging.root.handlers)),
    }

sources = sorted(Path("twincar").rglob("*.py"))
others = sorted({name for source in sources for name in imports(ast.parse(source.read_text()).body)})
for name in others:
    if name.partition(".")[0] != "twincar":  # what other libraries change is their own
        importlib.import_module(name)
import cv2

modules = [".".join(source.with_suffix("").parts).removesuffix(".__init__") for source in sources]
modules.remove("twincar.__main__")  # it runs the command line
before, changed = state(), {}
for module in modules:
    importlib.import_module(module)
    after = state()
    if after != before:
        changed[module] = [what for what in after if after[what] != before[what]]
    before = after
print(json.dumps([len(modules), changed, others]))
"""


def test_importing_the_package_changes_no_setting_of_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules, changed, imported = json.loads(done.stdout.splitlines()[-1])
    assert modules > 100
    assert changed == {}
    assert "numpy" in imported
    assert "onnxruntime" not in imported  # `open_session` imports it, once its usage data is switched off
