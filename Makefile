# make demo      show who logged in, from a captured log
# make test      run the fast tests; one or two minutes
# make test-all  run all tests, and measure the coverage (root); under fifteen minutes on two cores
# make check     check format, lint and types
# make bench     measure the figures in docs/performance.md (root; needs Debian's packages sshguard, rsyslog, postgresql, prosody,
#                openssh-server, pamtester and openjdk-17-jre-headless)
# make wheel     build a wheel in dist/, compiled if there are a C compiler and Python's headers; SSHBELL_PURE=1: plain
# make texts     write the texts of messages that are new or changed into the catalogues of all languages
# make kills     send 2,000 logins while signal 9 kills every process and disks fill up (root; needs rsyslog); some minutes
PYTHON ?= python3
VENV   ?= .venv
DEMO    = tests/samples/captures/three-hosts-9.2p1-debian12/merged.rfc3339.log.gz

# The tests start thousands of processes; without files of bytecode, each of them would compile all modules that it imports.
unexport PYTHONDONTWRITEBYTECODE

# A plain path to the project. Otherwise setuptools installs a finder, and each start of Python takes twice as long to import it.
EDITABLE = --config-settings editable_mode=compat --editable

# This covers the code that the tests call directly, not the processes that they start.
COVERED = --cov --cov-report= --cov-fail-under=0

# A wheel has this file; without it, each process that reads lines would import pyparsing and lower its rules again.
LOWERED_RULES = consumer/matching/lowered_rules.json

.PHONY: demo test test-all test-calls test-processes check bench wheel texts kills clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(VENV)/bin/sshbell replay --tz UTC $(DEMO)

test: $(VENV)/tested
	$(VENV)/bin/python -m pytest -m "not integration" --hypothesis-profile=fast --numprocesses=auto

# The tests in test-processes wait often, so they run beside test-calls, and more of them than there are cores.
# Each of the two prints its output when it has ended.
test-all: $(VENV)/tested $(LOWERED_RULES)
	$(MAKE) --jobs=2 --output-sync=target test-calls test-processes
	$(VENV)/bin/coverage combine --quiet .coverage-calls .coverage-processes
	$(VENV)/bin/coverage report

# Generated examples and tests in bulk run code that the other tests cover, too. Measured, they would take twice as long.
test-calls: $(VENV)/tested
	COVERAGE_FILE=.coverage-calls $(VENV)/bin/python -m pytest -m "not hypothesis and not bulk" --ignore=tests/integration \
	    --numprocesses=auto $(COVERED)
	$(VENV)/bin/python -m pytest -m "hypothesis or bulk" --ignore=tests/integration --hypothesis-profile=thorough \
	    --numprocesses=auto

test-processes: $(VENV)/tested $(LOWERED_RULES)
	COVERAGE_FILE=.coverage-processes $(VENV)/bin/python -m pytest --numprocesses=4 --dist=loadgroup $(COVERED) tests/integration

$(LOWERED_RULES): $(wildcard grammars/*.py consumer/matching/*.py) | $(VENV)/tested
	$(VENV)/bin/python -c 'from consumer.matching import grammar_rules as g, written_rules as w; g.RULES_FILE.write_bytes(w.contents_of_file())'

check: $(VENV)/tested
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(VENV)/tested
	$(VENV)/bin/python bench/replay.py
	$(MAKE) wheel
	$(VENV)/bin/python bench/compiled.py dist/sshbell-*.whl
	$(VENV)/bin/python bench/stages.py
	$(VENV)/bin/python bench/memory.py
	$(VENV)/bin/python bench/detect.py
	$(VENV)/bin/python bench/flood.py
	$(VENV)/bin/python bench/growth.py
	$(VENV)/bin/python bench/store.py
	$(VENV)/bin/python bench/long_lines.py
	$(VENV)/bin/python bench/held.py
	$(VENV)/bin/python bench/forget.py
	$(VENV)/bin/python bench/forged.py
	$(VENV)/bin/python bench/tokens.py
	$(VENV)/bin/python bench/places.py
	$(VENV)/bin/python bench/run.py
	$(VENV)/bin/python bench/latency.py
	$(VENV)/bin/python bench/worker.py
	$(VENV)/bin/python bench/worker_store.py
	$(VENV)/bin/python bench/webhook.py
	$(VENV)/bin/python bench/xmpp.py
	$(VENV)/bin/python bench/deliver.py
	$(VENV)/bin/python bench/key_index.py
	$(VENV)/bin/python bench/keys.py
	$(VENV)/bin/python bench/login.py
	$(VENV)/bin/python bench/block.py
	$(VENV)/bin/python bench/archive.py
	$(VENV)/bin/python bench/codes.py

# The build tools are those of the tests, which pyproject.toml pins.
wheel: $(VENV)/tested
	$(VENV)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

texts: $(VENV)/tested
	@mkdir -p build
	$(VENV)/bin/pybabel -q extract --mapping-file=pyproject.toml --keywords=NN_:1,2 --project=sshbell --version=messages --msgid-bugs-address="the issues of the project" --no-wrap --add-location=file \
	    --output=build/sshbell.pot .
	for code in $(notdir $(wildcard consumer/deliver/locale/*)); do \
	    $(VENV)/bin/pybabel -q update --input-file=build/sshbell.pot --output-dir=consumer/deliver/locale --domain=sshbell \
	        --locale=$$code --no-wrap --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date || exit; \
	done

kills: $(VENV)/tested
	$(VENV)/bin/python tests/integration/kills.py --seed 1 --logins 2000 --lines 20000 --kills 100

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "sshbell needs Python 3.11 or later as '$(PYTHON)'; on Debian 12 and Ubuntu 24.04: apt install python3; or: make PYTHON=python3.12"; exit 69; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo "sshbell needs venv and ensurepip; on Debian and Ubuntu: apt install python3-venv"; exit 69; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) .
	@touch $@

$(VENV)/tested: $(VENV)/bin/python pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) '.[test]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* $(LOWERED_RULES) .mypy_cache .ruff_cache .pytest_cache .hypothesis
