# Needs Python 3.11 to 3.13 and nothing else; everything goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --non-interactive)

# A worker takes a whole file, so that its fixtures are made once; files come in the order of tests/conftest.py. A worker
# that crashes ends the run, which otherwise repeats what crashed it, or waits for ever.
IN_TURN := -n 2 --dist loadscope --no-loadscope-reorder --max-worker-restart=0 --durations=60 --durations-min=2

# Byte code matters: without it, importing torchvision alone takes seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-all check browser docs benchmark mutants audit install lock clean

# Installs what it uses only; `make install` adds the rest to the same .venv.
quickstart: $(VENV)/installed-for-quickstart
	$(BIN)/twincar quickstart --out quickstart

# The gate: a quarter of an hour on two cores, installation included.
test: install
	@$(MAKE) --jobs=2 --output-sync check browser
	$(BIN)/python -m pytest -m "not slow" $(IN_TURN)

# Everything, and what of the package the tests reach: about an hour on two cores. CONTRIBUTING says when.
test-all: install check browser
	$(BIN)/python -m pytest -m "not alone" $(IN_TURN) --cov --cov-report=term
	$(BIN)/python -m pytest -m alone

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Pages are tested in Debian's chromium, which is installed where it can be; elsewhere those tests skip and say so.
# npm's cache is given what such a page computes with, and axe-core, a tester of accessibility; tests then fetch nothing.
NPM_PACKAGES := onnxruntime-web@1.30.0 axe-core@4.14.1
browser:
	@if command -v chromium; then :; \
	elif command -v apt-get && $(AS_ROOT) true; then \
		$(AS_ROOT) apt-get update && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; \
	else echo "No chromium, and no apt-get with the rights to install it: pages are not tested in a browser."; fi
	@if command -v npm; then npm cache add $(NPM_PACKAGES) || echo "npm cannot fetch $(NPM_PACKAGES): tests of these skip."; \
	else echo "No npm: the page that computes in a browser is neither tested nor part of the docs."; fi

# Into site/, which opens without a server; it asks no other host for anything.
docs: install
	$(BIN)/python docs/command_line.py
	$(BIN)/python docs/settings.py
	$(BIN)/python -m mkdocs build --strict
	@if command -v npm; then $(BIN)/twincar demo --static site/try; \
	else echo "No npm: 'Try it here' has no page, because npm fetches what it computes with."; fi

# Half an hour on two cores, during which nothing else should run. DATA is a prepared data set; without it, toy cars.
benchmark: install
	$(BIN)/python -m benchmarks $(DATA)

# Ten minutes on two cores: is there a test that notices each small change of metrics, labels, splits and calibration?
mutants: install
	$(BIN)/mutmut run
	$(BIN)/mutmut results

# Known faults of what is installed; asks the package index, so it is no part of `make test`.
audit: install
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip

install: $(VENV)/installed

define INSTALL
$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "TwinCar needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 ...")'
$(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-compile --requirement $(1)
$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # on all cores; some packages hold files that are not Python
$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endef

$(VENV)/installed: requirements.lock pyproject.toml
	$(call INSTALL,requirements.lock)
	touch $(VENV)/installed-for-quickstart $@

$(VENV)/installed-for-quickstart: requirements-quickstart.lock pyproject.toml
	$(call INSTALL,requirements-quickstart.lock)
	touch $@

LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url

# Names, versions and hashes; no index address. Needs uv on the PATH. The other locks are parts of the first. That of the
# quickstart lacks what torch imports without (triton is for torch.compile on a GPU, cusolver for torch.linalg there) and
# what only other extras need. No other NVIDIA library of any size can be left out: the registry's torch for Linux does
# not import without it. That of `serve` is what the container installs.
lock:
	$(LOCK) --extra train --extra serve --extra demo --extra cluster --extra heic --extra quantize --group dev --output-file requirements.lock
	$(LOCK) --extra train --group build --constraint requirements.lock \
		--no-emit-package triton --no-emit-package nvidia-cusolver --output-file requirements-quickstart.lock
	$(LOCK) --extra serve --constraint requirements.lock --output-file requirements-serve.lock

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage*
