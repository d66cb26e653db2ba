# The two commands that a new developer needs are `make demo` and `make test`; both do all their set-up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Tools that the fences need, kept out of the developer's own.
TOOLS := target/tools/bin
DENY_VERSION := 0.20.2
# Own code is built without optimising it; `make install` is for everyday use.
PROFILE := quick
BIN := target/$(PROFILE)/lockstep

.PHONY: help demo demo-down test fast live sweep bench fuzz page images install golden build fmt clippy deny

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: build images ## Launch staging and production of the demo site, change one, prove that they match
	@LOCKSTEP=$(BIN) examples/demo.sh

demo-down: build ## Remove what the demo launched, its data included
	@LOCKSTEP=$(BIN) examples/demo-down.sh

test: fmt clippy deny build images ## Everything: fences, fast tests, live tests
	$(CARGO) test --profile $(PROFILE) --workspace --locked

fast: ## The tests that need no engine
	$(CARGO) test --profile $(PROFILE) --locked --workspace --bins --test it

live: build images ## The tests against real engines and servers
	$(CARGO) test --profile $(PROFILE) --locked --workspace --test live

sweep: build images ## Break every request of every change in every way there is; takes hours
	SWEEP=whole LOCKSTEP_TEST_KILLS=200 $(CARGO) test --profile $(PROFILE) --locked --workspace --test live -- _sweep whatever_is_killed

bench: build images ## Side by side with what one would use instead; prints ratios with their spread
	$(CARGO) bench --profile dist --locked --workspace --bench side_by_side -- $(ARGS)

fuzz: ## Feed made-up bytes to all that reads bytes of others; needs g++. RUNS=1000000 per target, TARGETS=all
	fuzz/run.sh $(or $(RUNS),1000000) $(TARGETS)

page: ## The pages of reports in Debian's Chromium, which it installs (100 MB); pictures in target/page
	tests/page.sh

images: engine $(BIN) ## Build every image that demo and tests need
	tests/images/build.sh all
	cp target/$(PROFILE)/site examples/site/image/site
	examples/secrets.sh
	$(BIN) lock --environment staging >/dev/null

.PHONY: engine
engine:
	tests/images/engine.sh

build: ## Build the binary and the demo site
	$(CARGO) build --profile $(PROFILE) --locked --workspace

$(BIN): build

install: ## Install the binary for this user
	$(CARGO) install --profile dist --locked --path .

golden: ## Rewrite the expected texts of the cases; read the diff before committing it
	GOLDEN=1 $(CARGO) test --profile $(PROFILE) --locked --test it

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --profile $(PROFILE) --locked --workspace --all-targets -- -D warnings

deny: $(TOOLS)/cargo-deny
	$(TOOLS)/cargo-deny --workspace check bans licenses sources
	cd fuzz && $(CARGO) metadata --locked --format-version 1 >/dev/null

$(TOOLS)/cargo-deny:
	$(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --debug --root target/tools --target-dir target/tools-build
	rm -rf target/tools-build
