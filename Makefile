# make book         make the environment, run every chapter, build the book, say where to open it
# make test         make the environment, pass every test
# make serve        serve the built book on this machine
# make lab          open the chapters in JupyterLab
# make editions     the student, instructor and Colab notebooks, into _build/notebooks
# make experiments  train the recorded runs again and rewrite results/
# make receipts     measure what each chapter costs in minutes and memory
# make data         rebuild the embedded data sets from their sources
# make repository URL=https://github.com/you/your-fork    set the repository's address everywhere
# make clean        remove what was built
#
# BUDGET=smoke|book|full before a command chooses how long the chapters train.

PYTHON ?= python3
PY := .venv/bin/python
PORT ?= 8000
.DEFAULT_GOAL := help
.PHONY: help install install-test book test serve lab editions student experiments receipts data repository clean

help:
	@sed -n '/^#/!q; s/^#[ ]\{0,1\}//p' Makefile

NO_PYTHON = echo "Python 3.11 or newer is needed and there is no $(PYTHON): install it from https://www.python.org."

install:
	@command -v $(PYTHON) > /dev/null || { $(NO_PYTHON); exit 1; }
	@$(PYTHON) tools/install.py

install-test:
	@command -v $(PYTHON) > /dev/null || { $(NO_PYTHON); exit 1; }
	@$(PYTHON) tools/install.py --test

book: export BUDGET := $(or $(BUDGET),book)
book: install
	@$(PY) tools/build.py

test: export BUDGET := $(or $(BUDGET),smoke)
test: install-test
	@$(PY) tools/test.py

serve:
	@test -f _build/html/index.html || { echo "There is no built book yet: run 'make book' first."; exit 1; }
	@echo "The book is at http://127.0.0.1:$(PORT) (Ctrl-C stops)."
	@$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lab: install
	@$(PY) -m jupyterlab book

editions student: install
	@$(PY) tools/editions.py

experiments: install
	@$(PY) -m nemlib.experiments.cli train --recorded --again --record

receipts: install
	@$(PY) tools/receipts.py

data: install
	@$(PY) tools/make_data.py

repository: install
	@$(PY) tools/repository.py "$(URL)"

clean:
	@rm -rf _build book/vendor .pytest_cache
	@echo "Removed what was built. The environment stays; 'rm -rf .venv node_modules' removes that too."
