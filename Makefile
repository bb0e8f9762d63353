# Each target sets up what it needs in an environment of its own:
#   make demo test lint docs   .venv     the versions of constraints.txt
#   make test-latest      .venv-latest   the newest versions that pip finds
#   make test-lowest      .venv-lowest   the lowest versions that pyproject.toml allows
#   make lock             writes constraints.txt anew from the newest versions
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := -m pytest -n auto --maxprocesses 4 --dist worksteal
# Old libraries use what the newest of those below them warn of.
OLD := -W default::DeprecationWarning -W default::FutureWarning

.PHONY: install demo test test-latest test-lowest lock lint docs clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "t2v-eval needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt setuptools
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/t2v-eval demo --out demo-report

test: install
	$(BIN)/python $(PYTEST)

test-latest:
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	.venv-latest/bin/python $(PYTEST)

test-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) .ci/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet --upgrade pip  # older ones take long to find a solution
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/lowest.txt --editable '.[dev]'
	.venv-lowest/bin/python $(PYTEST) $(OLD)

# Local versions such as 2.14.1+cpu are left out, so that the file suits every build of torch.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --quiet '.[dev,cluster,nudenet]'
	(echo '# The development environment that the tests pass in; written by `make lock`.'; \
	 .venv-lock/bin/pip freeze --all --exclude pip --exclude t2v-eval | sed 's/+.*//') > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-lock build

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into site/, without network; a warning, a broken link or a request to another server is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) .venv-latest .venv-lowest .venv-lock build dist *.egg-info demo-report t2v-eval-demo site
