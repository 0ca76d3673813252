# Each target sets up what it needs in .venv: only make and Python 3.11 or newer must be there.
# On a machine whose python3 is older, name another one: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip
SITE := import sysconfig; print(sysconfig.get_path('purelib'))

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

# Two runs of pip in one environment would get in each other's way.
.NOTPARALLEL:
.PHONY: help demo test parity test-all test-oldest lint docs package clean

help:
	@echo "make demo    train LeNet-5 on handwritten digits and show the results, in demo/"
	@echo "make test    run the tests"
	@echo "make parity  compare with other packages, which it installs"
	@echo "make test-all  run all of these, and the slow tests too"
	@echo "make test-oldest  test distribution with the oldest Keras that is supported"
	@echo "make lint    check style, types and the direction of imports"
	@echo "make docs    write the generated pages and notebooks, build the site, in site/"
	@echo "make package build wheel and sdist in dist/, check them, run the wheel's quick start"
	@echo "make clean   delete outputs and caches; .venv stays"

demo: .venv/.installed-core
	$(BIN)/keras-cnn-classics demo --output demo

test: .venv/.installed-test
	$(BIN)/python -m pytest -n auto -m "not parity and not slow"

parity: .venv/.installed-test .venv/.installed-parity
	$(BIN)/python -m pytest -n auto -m "parity and not slow"

test-all: .venv/.installed-test .venv/.installed-tutorials .venv/.installed-parity
	$(BIN)/python -m pytest -n auto

# `training.distribution` stands on methods that Keras may change; `make test` has the newest.
test-oldest: .venv/.installed-test
	$(PIP) install --quiet --no-deps --upgrade --target .venv/keras-3.12 "keras==3.12.*"
	PYTHONPATH=.venv/keras-3.12 $(BIN)/python -m pytest -n 2 -k "two_devices or workers" \
		tests/training/test_two_devices.py tests/training/test_workers.py

# All of them run, so that one look shows everything there is to mend.
lint: .venv/.installed-dev
	@failed=""; \
	for tool in "ruff check ." "ruff format --check ." "mypy" "lint-imports" \
		"basedpyright --pythonpath $(BIN)/python"; do \
		echo "==> $$tool"; \
		$(BIN)/$$tool || failed="$$failed [$$tool]"; \
	done; \
	if [ -n "$$failed" ]; then echo "Not clean:$$failed" >&2; exit 1; fi

# The theme tells of versions of MkDocs to come, which setup.cfg leaves out.
docs: .venv/.installed-docs
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rEl --include='*.html' '<(script|link|img|iframe)[^>]+(src|href)="https?:' site || \
		{ echo "These pages load something from another host." >&2; exit 1; }

# What the package depends on is taken from .venv, where pip has put it by the same metadata.
package: .venv/.installed-package
	rm -rf dist build/clean build/quick-start
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv build/clean
	$(BIN)/python -c "$(SITE)" > "$$(build/clean/bin/python -c "$(SITE)")/dependencies.pth"
	build/clean/bin/python -m pip install --no-deps dist/*.whl
	cd build && clean/bin/keras-cnn-classics train LeNet5 --data digits --epochs 8 \
		--batch-size 16 --output quick-start
	cd build && clean/bin/keras-cnn-classics evaluate LeNet5 --data digits \
		--weights quick-start/best.keras
	cd build && clean/bin/python ../tests/installed.py

clean:
	rm -rf build demo dist site htmlcov .coverage .coverage.* \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# pip is what an interrupted `venv` lacks.
$(BIN)/pip:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no $(PYTHON). Name your Python: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is" \
			"`"$(PYTHON)" --version 2>&1`. Name another: make PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv

# One stamp for each set of extras in setup.cfg; `core` is the package alone.
.venv/.installed-%: setup.cfg pyproject.toml | $(BIN)/pip
	@echo "Installing into .venv; the first time takes some minutes."
	$(PIP) install --editable "$(if $(filter core,$*),.,.[$*])"
	@touch $@

# timm and pytorchcv import torchvision, whose wheel must match the build of torch. The comparison
# needs nothing of it, so it stays out, and timm's other needs are named here. tf2cv runs on Keras 2,
# tf_keras, which would bring a TensorFlow of its own version.
.venv/.installed-parity: Makefile | $(BIN)/pip
	$(PIP) install torch==2.13.0 pyyaml huggingface_hub safetensors
	$(PIP) install --no-deps timm==1.0.31 pytorchcv==0.0.74 tf2cv==0.0.18 tf_keras==2.21.0
	@touch $@
