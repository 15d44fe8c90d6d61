# make book · make test · make reproduce PROFILE=compact SCALELIB_DATA=/data · make bench
# Each target sets up what it needs; the package index is the only network (npm's too, for check-book).

PYTHON ?= python3
PROFILE ?= control
CORES ?= all
# Processes for the tests: one a core. What stands together stays together, so that what it shares is built once; a core
# that has done its part takes over from the others.
TESTS := -n auto --dist worksteal
VENV ?= .venv
# CONSTRAINTS=/dev/null takes the newest versions instead.
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
EXTRAS := tensorflow,slides,book,test,workflow
SETUP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Snakemake and the kernel that papermill starts must find the same environment.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup book test test-fast test-all lint notebooks-check notebooks-test reproduce try-slurm badge picture bench clean

help:
	@echo "make book        execute the control profile and build the book (_build/html/index.html)"
	@echo "make test        lint, types, pytest, then the notebooks: executed as for the book, compared by nbval"
	@echo "make test-fast   the same without slow tests and notebooks"
	@echo "make test-all    the same with every network of keras.applications and every archived row (half an hour more)"
	@echo "make notebooks-test  the notebooks alone, executed by nbval itself"
	@echo "make reproduce   PROFILE=compact SCALELIB_DATA=/path: execute a profile, then build the book"
	@echo "make try-slurm   the workflow on a Slurm of one node that is set up here; needs Debian, root and its packages"
	@echo "make check-book  every page of the built book in a browser, offline; needs Chromium, Node >= 20 and npm"
	@echo "make badge       the README's badge, from the archived results"
	@echo "make picture     the README's picture, from the archived results and those of make book"
	@echo "make bench       the benchmarks: each against a peer or a limit of the same run"

setup: $(SETUP)

$(SETUP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; found " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

# Jobs that need a graphics card, in the profile `paper`, take turns.
SNAKEMAKE := $(BIN)/snakemake --quiet rules host reason --cores $(CORES) --resources gpu=1 --rerun-incomplete

book: $(SETUP)
	$(SNAKEMAKE) --config profile=control -- book
	@echo "The book: _build/html/index.html"

reproduce: $(SETUP)
	$(SNAKEMAKE) --config profile=$(PROFILE) -- book
	@echo "The book: _build/html/index.html"

# A one-node Slurm set up, used and stopped on this machine: see workflow/try_slurm.sh for what it needs.
try-slurm: $(SETUP)
	bash workflow/try_slurm.sh

# Needs Chromium (CHROMIUM=/path/to/chrome if it is not /usr/bin/chromium), Node 20 or newer, npm and a built book.
check-book: spell checks/node_modules/.installed
	node --test checks/check_book.test.mjs
	node checks/check_book.mjs _build/html --screenshots _build/screenshots

checks/node_modules/.installed: checks/package-lock.json
	cd checks && npm ci --no-progress
	touch $@

spell: $(SETUP)
	$(BIN)/codespell README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff _config.yml _toc.yml book checks notebooks paper profiles scalebook scalelib workflow

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(TESTS) -m "not exhaustive"
	$(MAKE) notebooks-check

test-fast: lint
	$(BIN)/python -m pytest $(TESTS) -m "not slow and not exhaustive"

test-all: lint
	$(BIN)/python -m pytest $(TESTS)
	$(MAKE) notebooks-check

# Each notebook is executed once: what is compared here is what `make book` then finds up to date.
notebooks-check: $(SETUP)
	$(SNAKEMAKE) --config profile=control -- executed
	$(BIN)/python -m pytest -p tests.executed_copies --executed=book/executed/control notebooks/*.ipynb

notebooks-test: $(SETUP)
	$(BIN)/python -m pytest --nbval --nbval-current-env notebooks/*.ipynb

badge: $(SETUP)
	$(BIN)/scalelib ledger --profile paper --profile compact --badge book/_static/claims.svg

# After make book: the right half shows the control, too.
picture: $(SETUP)
	$(BIN)/python workflow/draw_figures.py
	sed 's/<svg /<svg width="900" style="background: white" /' book/figures/hero.svg > book/_static/hero.svg

bench: $(SETUP)
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf _build book/executed/control results/control .snakemake .cache/transfer/control .cache/jobs/control .cache/rendered_slides*
