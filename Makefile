# make demo   a synthetic corpus, a small training run, its score table
# make test   the whole suite
# Both make .venv by themselves; PYTHON=python3.12 make demo takes another Python (3.11 or newer).

PYTHON ?= python3
PY := .venv/bin/python
CORE := .venv/.core-$(shell cat requirements.txt constraints.txt | cksum | cut -d' ' -f1)
DEV := .venv/.dev-$(shell cat requirements*.txt constraints.txt | cksum | cut -d' ' -f1)
# a virtual environment that was moved, half built or made by a Python that is gone does not start
$(shell $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || rm -rf .venv)

.PHONY: demo test lint
demo: $(CORE)
	$(PY) main.py @exp/demo.txt

test: $(DEV)
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PY) -m pytest -n auto --dist loadfile  # small tensors: threads only wait

lint: $(DEV)
	$(PY) -m ruff check --fix . && $(PY) -m ruff format .

$(CORE): | .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt -c constraints.txt
	@rm -f .venv/.core-* && touch $@

$(DEV): | .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@rm -f .venv/.dev-* .venv/.core-* && touch $@ $(CORE)

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); try PYTHON=python3.11 make ..."; exit 2; }
	$(PYTHON) -m venv .venv
