# Everything here runs in .venv, which scripts/setup.sh makes on first use.
#
#   make demo         explain the built-in demo people and serve the App (APP=0: only the summary)
#   make test         lint, type check and tests, browser included
#   make viewer       build the component of the panel of pairs, which is committed
#   make quick        the tests that need neither the database nor the App, in a minute
#   make audit-dependencies   known vulnerabilities of what is installed, from PyPI's service
#   make check-real   the real embedders against the bounds of the method
#   make check-architectures   seventy networks of timm, torchvision, transformers and others: maps add up, and follow the image
#   make check-regions, check-suspects   regions and suspects on the real images
#   make check-crops  crops that are off, planted in the real images, from pixels alone
#   make check-duplicates   copies planted among the real images
#   make check-coherence   whether the way places match tells false matches, on the real embedders
#   make bench-audit  every planted defect of the demo world: precision and recall
#   make bench-faithfulness   our maps against others' on the real embedders
#   make bench-faithfulness-demo   maps on the demo world, where the answer is known
#   make bench-contributions   stored contributions on the real embedders: bytes, agreement, time
#   make bench-panels what the panels cost over 100,000 pairs
#   make bench-storage, bench-memory, bench-neighbors, bench-engines   what scale costs, see docs/scale.md
#   make bench-suspects   suspects and evaluation of up to a million embeddings, see docs/scale.md
#   make soak         20,000 images through the delegated operator, 500 panel actions, every kill
#   make bench        a run against computing embeddings, and against explaining pair by pair
#   make release      build wheel and sdist of a tag, check them, and write the release notes
#   make docs         the documentation site, in site/
#   make pictures     the pictures of the docs, made anew from the App
#   make notebooks    the notebooks in examples/, executed and written anew
#   make example-report   an example of a report, docs/example-report.html
#   make clean        remove .venv and caches

APP ?= 1
PORT ?= 5151
ADDRESS ?= 127.0.0.1
SEED ?=
WORKERS ?= 2
BIN := .venv/bin
# Node is the system's, or comes into .venv.
NPM := PATH="$$PATH:$(CURDIR)/$(BIN)" npm --silent --prefix fiftyone_sfam/app/viewer

# The tests start many processes, which all import FiftyOne and torch: what Python has
# compiled of them is kept, and nowhere but in .venv.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.PHONY: help demo test quick lint typecheck pytest viewer lint-viewer test-viewer audit-dependencies check-real check-architectures check-regions check-suspects check-crops check-duplicates \
  check-coherence \
  bench bench-audit bench-faithfulness bench-faithfulness-demo bench-contributions \
  bench-panels bench-storage \
  bench-memory bench-neighbors bench-engines bench-suspects soak release docs pictures notebooks \
  example-report clean \
  setup-demo setup-test setup-bench setup-docs

help:
	@sed -n 's/^#   make/make/p' Makefile

demo: setup-demo
	$(BIN)/fiftyone-sfam demo $(if $(filter 0 no false,$(APP)),--no-app,--app) \
	  --port $(PORT) --address $(ADDRESS) $(if $(SEED),--seed $(SEED))

test: lint typecheck pytest

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit -q -r fiftyone_sfam -c pyproject.toml
	@$(MAKE) --no-print-directory lint-viewer

lint-viewer: setup-test
	$(NPM) run check

# Builds what the App's page loads, which is committed; a test compares.
viewer: setup-test
	$(NPM) run build

test-viewer: setup-test
	$(NPM) test

typecheck: setup-test
	$(BIN)/mypy

# A file is run by one process, which has its own MongoDB and App; WORKERS=0 runs all in one.
# The slow files are spread, see conftest.
pytest: setup-test test-viewer
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

quick: setup-test
	$(BIN)/python -m pytest --quick -n $(WORKERS) --dist worksteal $(ARGS)

# Asks the vulnerability service of PyPI for every installed package, so it needs the network.
audit-dependencies: setup-test
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off $(ARGS)

check-real: setup-test
	$(BIN)/python benchmarks/check_real.py $(ARGS)

# facenet-pytorch asks for a torch of long ago, but works with any.
check-architectures: setup-test
	$(BIN)/python -m pip install --quiet --no-deps facenet-pytorch pytorch-metric-learning
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/check_architectures.py $(ARGS)

check-regions: setup-test
	$(BIN)/python benchmarks/check_regions.py $(ARGS)

check-suspects: setup-test
	$(BIN)/python benchmarks/check_suspects.py $(ARGS)

check-crops: setup-test
	$(BIN)/python benchmarks/check_crops.py $(ARGS)

check-duplicates: setup-test
	$(BIN)/python benchmarks/check_duplicates.py $(ARGS)

check-coherence: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/check_coherence.py $(ARGS)

bench: setup-bench
	$(BIN)/python benchmarks/performance.py $(ARGS)

bench-audit: setup-test
	$(BIN)/python benchmarks/audit.py $(ARGS)

bench-faithfulness: setup-bench
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/faithfulness.py $(ARGS)

bench-faithfulness-demo: setup-test
	$(BIN)/python benchmarks/faithfulness.py --demo

bench-contributions: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/contributions.py $(ARGS)

bench-panels: setup-test
	$(BIN)/python benchmarks/panels.py $(ARGS)

bench-storage: setup-test
	$(BIN)/python benchmarks/storage.py $(ARGS)

bench-memory: setup-test
	$(BIN)/python benchmarks/memory.py $(ARGS)

bench-neighbors: setup-test
	$(BIN)/python benchmarks/neighbors.py $(ARGS)

bench-suspects: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/suspects_scale.py $(ARGS)

bench-engines: setup-test
	$(BIN)/python benchmarks/engines.py $(ARGS)

soak: setup-test
	$(BIN)/python benchmarks/soak.py $(ARGS)

# ARGS="--rehearsal" leaves out the tag; ARGS="--empty python3.10 python3.13" installs in each.
release: setup-test
	$(BIN)/python -m pip install --quiet twine
	$(BIN)/python scripts/release.py $(ARGS)

docs: setup-docs docs/example-report.html
	$(BIN)/mkdocs build --strict

docs/example-report.html: | setup-docs
	$(BIN)/python scripts/make_example_report.py

example-report: setup-demo
	$(BIN)/python scripts/make_example_report.py

pictures: setup-test
	$(BIN)/python scripts/make_pictures.py

# Of NAMES, such as "wildlife", or all.
notebooks: setup-test
	$(BIN)/python scripts/notebooks.py $(NAMES)

setup-demo:
	@scripts/setup.sh demo

setup-test:
	@scripts/setup.sh test

setup-bench:
	@scripts/setup.sh bench

setup-docs:
	@scripts/setup.sh docs

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
