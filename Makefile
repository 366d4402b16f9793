# agentedge: every task of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help dev build test check lint bench soak fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: build ## run it: embedded store, mock provider unless keys are set
	@./bin/agentedge dev

build: ## one static binary in bin/
	@CGO_ENABLED=0 go build -trimpath -o bin/agentedge ./cmd/agentedge

test: ## everything: sets up PostgreSQL with pgvector, lints, runs all tests
	@scripts/test.sh

check: ## the fast loop: what needs no PostgreSQL and no processes
	@CHECK=1 go test $$(go list ./... | grep -v -e /e2e -e /bench -e /internal/postgres -e /internal/pgtest)

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	@go vet ./...
	@go run $(STATICCHECK) ./...

bench: build ## the side-by-side benchmarks; results in bench/results
	@go run ./bench

soak: ## the long fault tests: half an hour of kills, cuts and outages
	@SOAK=1 scripts/test.sh -timeout 100m ./e2e/...

fuzz: ## every fuzz target for 30 s
	@scripts/fuzz.sh 30s

clean: ## remove what was built and the throwaway PostgreSQL
	@rm -rf bin .cache
