# Everything this repository can do for you; `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

## check: what CI runs: format, lint, types, unit, integration, chart and end-to-end tests
.PHONY: check
check: install
	@tools/deno run --allow-all tests/run.ts

## unit, integration, faults, chart-test, e2e-test: one suite of tests
.PHONY: unit integration faults chart-test e2e-test
unit integration faults:
	@tools/deno run --allow-all tests/run.ts $@
chart-test e2e-test:
	@tools/deno run --allow-all tests/run.ts $(@:-test=)

## faults-full: the tests of faults with every fault as long and as large as its words say, which takes half an hour
.PHONY: faults-full
faults-full: export FAULTS = full
faults-full: install
	@tools/deno run --allow-all tests/faults/suite.ts

## reliability: run the tests of faults and write docs/reliability.md from what they measured
.PHONY: reliability
reliability:
	@tools/deno run --allow-all tests/faults/suite.ts --write

## fmt: bring all sources into the project's format
.PHONY: fmt
fmt:
	@tools/deno fmt

## guards: put each mistake of tests/mutants/guards.json into a copy of the tree and see its test go red: nightly, some 5 minutes (GUARDS="id …")
.PHONY: guards
guards: install
	@tools/deno run --allow-all tools/mutants.ts $(GUARDS)

## mutants: list the mistakes in changed lines of src/ that the unit tests do not notice (SINCE=commit, or FILES="src/spec src/…"; a second or two each)
.PHONY: mutants
mutants:
	@tools/deno run --allow-all tools/mutate.ts $(or $(FILES),$(SINCE))

## mutants-all: the same for every file of which docs/mutants.md says that 95 % of the mistakes are noticed; fails if it is less of one (20 min)
.PHONY: mutants-all
mutants-all:
	@tools/deno run --allow-all tools/mutate.ts --least=95 src/plan src/limits/admissions.ts src/spec src/store src/pcap

## nightly: what takes long and guards little: all guards (5 min), mutants-all (20 min), all faults at length (30 min), a flood on the cluster (4 min), and the public suite of SUITE=DIR
.PHONY: nightly
nightly: guards mutants-all faults-full
	@tools/deno run --allow-all tests/e2e/suite.ts tests/nightly
	@if [[ -n "$(SUITE)" ]]; then $(MAKE) public-suite; else echo "no SUITE=DIR: no public suite was read"; fi

## public-suite: read every capture file under SUITE=DIR, such as tests of tcpdump's source: capinfos must find the same in what is made of it
.PHONY: public-suite
public-suite: install
	@tools/deno run --allow-all tests/nightly/public_suite.ts $(SUITE)

## soak: pods come and go for SOAK=10m, on the cluster if one is up (make deploy), else on a test node; what the controllers take must be flat
.PHONY: soak
soak: install
	@tools/deno run --allow-all tests/faults/soak.ts

## bench: measure, and write docs/benchmarks.md (ONLY=part,… WRITE=1 CHECK=1 PEER="command line"): 40 minutes
.PHONY: bench
bench: install bundle
	@tools/deno run --allow-all tests/bench/main.ts

## bundle: dist/packet-capture.cjs and dist/kubectl-packet_capture.js, one file each
.PHONY: bundle
bundle:
	@tools/deno run --allow-all tools/bundle.ts

## binary: dist/packet-capture, the bundle and the Deno runtime in one executable
.PHONY: binary
binary: bundle
	@tools/binary

## lock: write deno.jsr.lock, which releases are built by, where JSR can be reached
.PHONY: lock
lock:
	@PACKET_CAPTURE_JSR=yes tools/deno cache src/main.ts src/plugin/main.ts tools/bundle.ts
	@cp node_modules/.packet-capture/deno.lock deno.jsr.lock

## plugin: dist/kubectl-packet_capture, the kubectl plugin in one executable file
.PHONY: plugin
plugin: bundle
	@tools/plugin

## install: what the other targets need, from npm and Debian's packages
.PHONY: install
install:
	@tools/install

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | column -t -s: -l 2

# ---------------------------------------------------------------------------------------------------------------------
# The cluster. CLUSTER_DIR holds its kubeconfig; nothing here ever touches another cluster of yours.
# ---------------------------------------------------------------------------------------------------------------------
CLUSTER_DIR ?= .cluster
NAMESPACE ?= packet-capture
VALUES ?=
export CLUSTER_DIR NAMESPACE

## e2e: everything from nothing to a pcap of real packets in outputs/: cluster-setup, deploy, test
.PHONY: e2e
e2e:
	@$(MAKE) cluster-setup
	@$(MAKE) deploy
	@$(MAKE) test

## cluster-setup: a cluster with two workers: kind with Antrea where Docker runs, else real Kubernetes without Docker
.PHONY: cluster-setup
cluster-setup:
	@tools/install cluster kubectl
	@tools/deno run --allow-all tests/cluster/main.ts up

## image: build the Dockerfile into dist/image.tar, with docker, podman or buildah (REPOSITORY=registry.example.com/packet-capture)
.PHONY: image
image: export IMAGE_REPOSITORY = $(REPOSITORY)
image:
	@tools/install image
	@tools/image

## deploy: build the image, load it into the cluster, install the chart with it (VALUES="--set …" NAMESPACE=…)
.PHONY: deploy
deploy: image
	@tools/install kubectl
	@tools/deno run --allow-all tests/e2e/deploy.ts $(VALUES)

## test: annotate test-pod, wait for its packets, write outputs/, un-annotate, see that all is gone
.PHONY: test
test:
	@tools/deno run --allow-all tests/e2e/smoke.ts

## cleanup: take the cluster down, also a half-made one (outputs/ stays)
.PHONY: cleanup
cleanup:
	@tools/deno run --allow-all tests/cluster/main.ts down
