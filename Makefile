# Everything here needs Go, make, git and a C compiler (for the race detector), the tests OpenSSL's program, and nothing else:
# tools and the test control plane are built into bin/ from Go modules pinned in hack/.
SHELL       := /usr/bin/env bash
.SHELLFLAGS := -o errexit -o nounset -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

MODULE   := github.com/pcinetwork/pci-network-baseline
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE    ?= $(shell awk '$$1 == "newName:" { name = $$2 } $$1 == "newTag:" { print name ":" $$2 }' config/manager/kustomization.yaml)
BENCH_N  ?= 1000
DEMO     ?=
CNI      ?= none
E2E      ?= none cilium
E2E_HOSTS ?= cilium
NODES    ?= 1
PAIRS    ?= 1000000
SEED     ?= 1

# Packages that have fault plans.
FAULTS := faults fights outages lifecycle burst

# Packages that take values and return values. verify-imports keeps clients out of them.
PURE := internal/policy internal/snapshot internal/plan internal/checks internal/render internal/report internal/trial

# Real API servers for tests. Whoever sets KUBEBUILDER_ASSETS brings their own, and nothing is built.
ASSETS := $(CURDIR)/bin/k8s
KUBEBUILDER_ASSETS := $(or $(KUBEBUILDER_ASSETS),$(ASSETS))
export KUBEBUILDER_ASSETS

CONTROLLER_GEN := bin/controller-gen
GOLANGCI_LINT  := bin/golangci-lint
BUDGETS        := bin/budgets

##@ General

.PHONY: help
help: ## Show this help
	@awk 'BEGIN { FS = ":.*## "; print "Usage: make TARGET" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: clean
clean: ## Remove what was built; the Go caches stay
	find bin -mindepth 1 ! -name .gitignore -delete

##@ Develop

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Write the deepcopy functions
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/... paths=./internal/render/cilium

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Write the CRDs and the role from the markers, and the static admission manifests
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd
	@# There is no marker for the values of a map. A null that is not nullable is dropped before any rule could refuse it.
	sed -i 's/^\( *\)additionalProperties:$$/&\n\1  nullable: true/' config/crd/pcinetwork.dev_*.yaml
	$(CONTROLLER_GEN) rbac:roleName=manager paths=./controllers/... output:rbac:dir=config/rbac
	go run ./hack/admission

.PHONY: docs
docs: ## Write the tables of docs/spec.md from the CRDs and the code
	go run ./hack/docs

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go files
	$(GOLANGCI_LINT) fmt ./...

.PHONY: build
build: ## Build the manager, static, into bin/
	CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags '-s -w -X $(MODULE)/internal/version.Version=$(VERSION)' \
	  -o bin/pci-network-baseline .

.PHONY: image
image: build ## Write the operator's image to bin/image.tar, an OCI archive, without a container engine
	@go run ./hack/image -name $(IMAGE) -label org.opencontainers.image.version=$(VERSION) -out bin/image.tar bin/pci-network-baseline

##@ Test

.PHONY: test
test: $(if $(filter $(ASSETS),$(KUBEBUILDER_ASSETS)),controlplane) sslscan ## Run every test, with the race detector, on a real API server
	go test -race -count=1 -timeout 30m ./... # never from the test cache: it does not see what kubectl reads
	cd test/semantic && go test -count=1 ./...

.PHONY: test-short
test-short: ## Run the tests of the pure packages
	go test $(PURE:%=./%/...)

.PHONY: test-semantic
test-semantic: ## Ask the engines for PAIRS (spec, packet) pairs, from SEED on
	cd test/semantic && go test -count=1 -timeout 60m -run TestBackendsMeanWhatTheSpecSays -v . -args -pairs $(PAIRS) -seed $(SEED)

.PHONY: test-faults
test-faults: $(if $(filter $(ASSETS),$(KUBEBUILDER_ASSETS)),controlplane) ## Run every fault plan, of which test runs a sample
	PCINB_FAULTS=full go test -count=1 -p 1 -timeout 3h -v $(FAULTS:%=./test/%/...) | grep --line-buffered -vE '^ *(===|--- PASS)'

.PHONY: demo
demo: controlplane build ## Start a cluster with the operator in it; DEMO=once runs the story and ends
	go run ./hack/demo -assets $(ASSETS) $(if $(filter once,$(DEMO)),-once)

.PHONY: demo-down
demo-down: ## Stop the demo's cluster and remove its data
	go run ./hack/demo -down

.PHONY: cluster
cluster: $(if $(filter $(ASSETS),$(KUBEBUILDER_ASSETS)),controlplane) cluster-program ## Start real nodes: CNI=none, cilium or calico, NODES=1 or more
	bin/node/cluster up -cni $(CNI) -nodes $(NODES) $(if $(wildcard bin/image.tar),-image bin/image.tar)

.PHONY: cluster-down
cluster-down: cluster-program ## End the cluster and remove what it wrote, but for logs
	bin/node/cluster down

.PHONY: e2e
e2e: $(if $(filter $(ASSETS),$(KUBEBUILDER_ASSETS)),controlplane) cluster-program image ## Run scenarios with real pods and packets, on a cluster of its own for each of E2E
	@go run ./hack/image -name $(IMAGE)-next -out bin/node/next.tar bin/pci-network-baseline
	go test -c -o bin/node/e2e ./test/e2e
	for cni in $(E2E); do \
	  bin/node/cluster up -cni $$cni -image bin/image.tar -image bin/node/next.tar -- \
	    bin/node/e2e -test.v -test.timeout 20m -cni $$cni -image $(IMAGE)-next; \
	done

.PHONY: e2e-hosts
e2e-hosts: $(if $(filter $(ASSETS),$(KUBEBUILDER_ASSETS)),controlplane) cluster-program image ## Run the scenarios of a firewall on nodes, where the control plane runs on one
	go test -c -o bin/node/e2e ./test/e2e
	for cni in $(E2E_HOSTS); do \
	  bin/node/cluster up -cni $$cni -nodes 2 -server n1 -image bin/image.tar -- \
	    bin/node/e2e -test.v -test.timeout 25m -test.run 'TestHostFirewall|TestDeadMan|TestKubelets' -cni $$cni; \
	done

.PHONY: cluster-program
cluster-program:
	@[ "$$(uname -s)" = Linux ] || { echo "real nodes need Linux, and root on it" >&2; exit 3; }
	CGO_ENABLED=0 go build -o bin/node/cluster ./hack/cluster

.PHONY: bench
bench: controlplane build ## Measure BENCH_N namespaces; the result is bin/bench.json
	go run ./hack/bench -n $(BENCH_N) -out bin/bench.json

.PHONY: sslscan
sslscan: ## Unpack Debian's sslscan into bin/, to compare the prober with
	hack/sslscan.sh bin/sslscan

.PHONY: controlplane
controlplane: ## Build etcd, the Kubernetes control plane and kubectl into bin/k8s
	hack/controlplane/build.sh bin/k8s

##@ Gates

.PHONY: ci
ci: ## Run what continuous integration runs
	.ci/run

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters
	$(GOLANGCI_LINT) run ./...
	cd hack/tools && ../../$(GOLANGCI_LINT) run ./budgets/...
	cd test/semantic && ../../$(GOLANGCI_LINT) run ./...

.PHONY: verify
verify: verify-generated verify-imports verify-budgets verify-image verify-gates ## Run every gate but the linters and tests

.PHONY: verify-generated
verify-generated: $(CONTROLLER_GEN) ## Regenerate: nothing may change, and nothing may be uncommitted
	hack/verify-generated.sh

.PHONY: verify-imports
verify-imports: ## Keep Kubernetes clients out of the pure packages
	hack/verify-imports.sh $(PURE)

.PHONY: verify-budgets
verify-budgets: $(BUDGETS) ## Check lengths, parameter counts and log messages
	hack/verify-budgets.sh

.PHONY: verify-image
verify-image: ## Build the image twice, here and elsewhere: the digest must be one
	hack/verify-image.sh

.PHONY: verify-gates
verify-gates: $(BUDGETS) $(CONTROLLER_GEN) $(GOLANGCI_LINT) ## Plant a fault for each gate and see it turn red
	hack/verify-gates.sh

# Tools are rebuilt only when their own sources or pins change.
TOOLS_MOD := hack/tools/go.mod hack/tools/go.sum

$(GOLANGCI_LINT): hack/tools/golangci-lint/main.go $(TOOLS_MOD)
	@echo "building golangci-lint; with a cold build cache about 5 minutes on two cores"
	cd hack/tools && go build -o $(CURDIR)/$@ ./golangci-lint

$(CONTROLLER_GEN): $(TOOLS_MOD)
	cd hack/tools && go build -o $(CURDIR)/$@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(BUDGETS): hack/tools/budgets/main.go $(TOOLS_MOD)
	cd hack/tools && go build -o $(CURDIR)/$@ ./budgets
