# Variables that a user may set, as in: make match PHOTOS="a.jpg folder/" GALLERY=galleries/friends
PYTHON    ?= python3
VENV      ?= .venv
SOURCE    ?=
PHOTOS    ?=
GALLERY   ?= galleries/celebrities
OUTPUT    ?=
NAME      ?=
ENCODER   ?=
INIT      ?=
RUNNER    ?= DirectRunner
PARALLELISM ?= 2
BEAM_ARGS ?=
GOLDEN    ?=
PYTEST_ARGS ?=
TRAIN_ARGS ?=
TEST_PROCESSES ?= 2
BENCHMARKS ?= throughput detection_quality stages scaling download calibration audit publishing album

BIN := $(VENV)/bin
FLINK := build/flink
DATAFLOW := build/dataflow-venv
IMAGE ?= celebface-worker
BEAM_VERSION = $(shell sed -n 's/^apache-beam==\([^ ]*\).*/\1/p' requirements.lock)
LAYERS := pipelines transforms models indexing

# Annoy has no wheels. By itself it compiles for the processor at hand and with -ffast-math, under which some compilers
# build an index that silently returns a single neighbour. The variable replaces all of its flags.
ifeq ($(shell uname -m),x86_64)
ANNOY_MARCH := -march=x86-64-v3,
endif
ANNOY_FLAGS := -O3,$(ANNOY_MARCH)-std=c++14,-fpermissive,-DANNOYLIB_MULTITHREADED_BUILD

# How a job gets to the engine that RUNNER names; what BEAM_ARGS says comes after it, and counts.
engine = flags=$$($(BIN)/python -m deploy.engines $(RUNNER) --parallelism=$(PARALLELISM))

# Unset variables leave the command's own default.
flag = $(if $(2),--$(1)=$(2))

.DEFAULT_GOAL := help
.PHONY: help setup models build-gallery match report train test test-browser test-engines golden dataflow-plan image annoy-flags cluster-up cluster-down bench bench-index \
	lint lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  variables: SOURCE, NAME, PHOTOS, GALLERY, OUTPUT, ENCODER, INIT, RUNNER, PARALLELISM, BEAM_ARGS, GOLDEN, BENCHMARKS, TRAIN_ARGS, PYTEST_ARGS"

setup: $(VENV)/.installed ## Make the virtual environment with the locked versions

# An environment of locked versions, in which this is installed so that changes to it count at once.
define make-venv
	$(PYTHON) -m venv $(1)
	sed -n '/^annoy==/,/^[^ ]/{/^annoy==/p;/^  /p;}' $(2) | sed '/# via/d;/^ *#/d' > $(1)/annoy.lock
	ANNOY_COMPILER_ARGS="$(ANNOY_FLAGS)" $(1)/bin/python -m pip install --quiet --no-cache-dir --no-binary annoy \
		--require-hashes --no-deps --requirement $(1)/annoy.lock
	$(1)/bin/python -m pip install --quiet --require-hashes --requirement $(2)
	$(1)/bin/python -m pip install --quiet --quiet --no-deps --editable .
	touch $(1)/.installed
endef

$(VENV)/.installed: requirements.lock setup.py pyproject.toml
	$(call make-venv,$(VENV),requirements.lock)

$(DATAFLOW)/.installed: deploy/requirements.lock setup.py pyproject.toml
	$(call make-venv,$(DATAFLOW),deploy/requirements.lock)

models: setup ## Fetch the pre-trained FaceNet and the sample photos
	@$(BIN)/celebface fetch-models

build-gallery: models ## Build and publish a gallery; SOURCE (default: the sample), NAME, OUTPUT (the root of galleries)
	@$(engine) && set -x && $(BIN)/celebface build-gallery $(foreach place,$(SOURCE),--source=$(place)) $(call flag,output_root,$(OUTPUT)) \
		$(call flag,name,$(NAME)) $(call flag,encoder,$(ENCODER)) $$flags $(BEAM_ARGS)

match: models ## Match PHOTOS (default: the sample's) against GALLERY; OUTPUT (folder of the results)
ifeq ($(origin GALLERY),file)
	@test -e $(GALLERY)/LATEST || $(MAKE) --no-print-directory build-gallery OUTPUT= SOURCE= NAME= RUNNER=DirectRunner BEAM_ARGS=
endif
	@$(engine) && set -x && $(BIN)/celebface match $(or $(PHOTOS),--sample) --gallery=$(GALLERY) $(call flag,output,$(OUTPUT)) \
		$(call flag,encoder,$(ENCODER)) $$flags $(BEAM_ARGS)

report: setup ## A site to look at, of the results in OUTPUT (default: matches)
	$(BIN)/celebface report $(or $(OUTPUT),matches)

train: models ## Train an encoder on the people of SOURCE; INIT, OUTPUT (its folder, default: encoder), TRAIN_ARGS
	$(BIN)/celebface train $(call flag,images,$(SOURCE)) $(call flag,init,$(INIT)) --output=$(or $(OUTPUT),encoder) \
		$(TRAIN_ARGS)

test: models ## Run the tests, several files at a time; PYTEST_ARGS
	$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-browser: models ## Run the report's tests in a real Chromium, which is installed on Debian if it is not there
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq chromium chromium-driver; }
	CELEBFACE_BROWSER=1 $(BIN)/python -m pytest tests/test_browser.py

bench: models ## Measure against other programs; prints the ratios, keeps them in benchmarks/results
	for each in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$each || exit; done

bench-index: setup ## Measure the kinds of index beside faiss and usearch, up to a million faces
	$(BIN)/python -m benchmarks.index

cluster-up: models $(FLINK)/lib $(FLINK)/job-server.jar ## Start a Flink cluster on this machine, for RUNNER=FlinkRunner
	@$(BIN)/python -m deploy.flink.cluster up

cluster-down: setup ## End it; nothing of it stays but its logs
	@$(BIN)/python -m deploy.flink.cluster down

# The distribution without its start scripts, from the source package that carries it.
$(FLINK)/lib: deploy/flink/requirements.lock | setup
	@command -v java >/dev/null || { apt-get update -qq && apt-get install -y -qq openjdk-17-jre-headless; }
	rm -rf $(FLINK)/package $@.new && mkdir -p $(FLINK)/package $@.new
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --require-hashes --requirement $< \
		--dest $(FLINK)/package
	tar -xzf $(FLINK)/package/*.tar.gz -C $@.new --strip-components=3 --wildcards '*/deps/lib/*.jar'
	rm -rf $(FLINK)/package $@ && mv $@.new $@ && touch $@

$(FLINK)/job-server.jar: deploy/flink/pom.xml
	@command -v mvn >/dev/null || { apt-get update -qq && apt-get install -y -qq maven; }
	mvn --quiet --batch-mode --file $< package -DoutputDirectory=$(CURDIR)/$(FLINK)
	touch $@

build/prism: requirements.lock | setup ## Build Beam's portable runner with Go, for RUNNER=PrismRunner where it cannot be downloaded
	GOBIN=$(CURDIR)/build go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM_VERSION)
	touch $@

dataflow-plan: $(DATAFLOW)/.installed ## Build both jobs for Dataflow, offline, and check what would be sent; PLAN_ARGS
	@$(DATAFLOW)/bin/celebface fetch-models >/dev/null
	@$(DATAFLOW)/bin/python -m deploy.dataflow_plan $(PLAN_ARGS)

annoy-flags:
	@echo "$(ANNOY_FLAGS)"

image: ## Build the workers' container image with Docker; IMAGE (its name)
	docker build --file deploy/Dockerfile --build-arg ANNOY_FLAGS="$(ANNOY_FLAGS)" --tag $(IMAGE) .

golden: models ## Run the same jobs on every engine that is there, and compare the results; GOLDEN
	$(BIN)/python -m deploy.golden $(GOLDEN)

test-engines: models $(FLINK)/lib $(FLINK)/job-server.jar build/prism $(DATAFLOW)/.tests ## Run jobs on Flink and Prism, kill parts of them, check the Dataflow plan
	CELEBFACE_ENGINES=1 $(BIN)/python -m pytest tests/test_engines.py
	CELEBFACE_ENGINES=1 $(DATAFLOW)/bin/python -m pytest tests/test_dataflow_plan.py

$(DATAFLOW)/.tests: $(DATAFLOW)/.installed requirements.lock
	sed -n 's/^\([a-z0-9_.-]*==[^ ]*\).*/\1/p' requirements.lock > $(DATAFLOW)/constraints.txt
	$(DATAFLOW)/bin/python -m pip install --quiet --constraint $(DATAFLOW)/constraints.txt pytest pytest-timeout
	touch $@

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/types/celebface && ln -sfn $(foreach layer,$(LAYERS),$(CURDIR)/$(layer)) build/types/celebface/
	ln -sfn $(CURDIR)/deploy build/types/deploy
	rm -rf build/types/benchmarks && mkdir build/types/benchmarks && ln -s $(CURDIR)/benchmarks/*.py build/types/benchmarks/  # not those that run in other environments
	cd build/types && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p celebface -p deploy -p benchmarks

lock: setup ## Solve requirements.lock anew from setup.py
	$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-options --output-file requirements.lock setup.py

clean: ## Remove the virtual environment and what builds leave
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
