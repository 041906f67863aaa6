# Everything here runs in .venv, which scripts/setup.sh makes on first use.
#
#   make demo         explain the built-in demo people and serve the App (APP=0: only the summary)
#   make test         lint, type check and tests, browser included
#   make check-real   the four real embedders against the bounds of the method
#   make pictures     the pictures of the README, made anew
#   make clean        remove .venv and caches

APP ?= 1
PORT ?= 5151
ADDRESS ?= 127.0.0.1
SEED ?=
BIN := .venv/bin

.PHONY: help demo test lint typecheck pytest check-real pictures clean setup-demo setup-test

help:
	@sed -n '3,7s/^# *//p' Makefile

demo: setup-demo
	$(BIN)/fiftyone-sfam demo $(if $(filter 0 no false,$(APP)),--no-app,--app) \
	  --port $(PORT) --address $(ADDRESS) $(if $(SEED),--seed $(SEED))

test: lint typecheck pytest

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: setup-test
	$(BIN)/mypy

pytest: setup-test
	$(BIN)/python -m pytest $(ARGS)

check-real: setup-test
	$(BIN)/python benchmarks/check_real.py $(ARGS)

pictures: setup-test
	$(BIN)/python scripts/make_pictures.py

setup-demo:
	@scripts/setup.sh demo

setup-test:
	@scripts/setup.sh test

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
