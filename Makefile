# The two commands that a new developer needs are `make demo` and `make test`; both do all their set-up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Tools that the fences need, kept out of the developer's own.
TOOLS := target/tools/bin
DENY_VERSION := 0.20.2
BIN := target/release/lockstep

.PHONY: help demo demo-down test fast live bench images install golden build fmt clippy deny

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: build images ## Launch staging and production of the demo site, change one, prove that they match
	@LOCKSTEP=$(BIN) examples/demo.sh

demo-down: build ## Remove what the demo launched, its data included
	@LOCKSTEP=$(BIN) examples/demo-down.sh

test: fmt clippy deny build images ## Everything: fences, fast tests, live tests
	$(CARGO) test --release --workspace --locked

fast: ## The tests that need no engine
	$(CARGO) test --release --locked --lib --bins --test it -p lockstep-env
	$(CARGO) test --release --locked -p site

live: build images ## The tests against real engines and servers
	$(CARGO) test --release --locked --test live

bench: build images ## Side by side with what one would use instead; prints ratios with their spread
	$(CARGO) bench --profile release --locked --bench side_by_side -- $(ARGS)

images: engine $(BIN) ## Build every image that demo and tests need, from Debian packages
	tests/images/build.sh all
	cp target/release/site examples/site/image/site
	examples/secrets.sh
	$(BIN) lock --environment staging >/dev/null

.PHONY: engine
engine:
	tests/images/engine.sh

build: ## Build the binary and the demo site
	$(CARGO) build --release --locked --workspace

$(BIN): build

install: ## Install the binary for this user
	$(CARGO) install --locked --path .

golden: ## Rewrite the expected texts of the cases; read the diff before committing it
	GOLDEN=1 $(CARGO) test --release --locked --test it

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

deny: $(TOOLS)/cargo-deny
	$(TOOLS)/cargo-deny --workspace check bans licenses sources

$(TOOLS)/cargo-deny:
	$(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --debug --root target/tools --target-dir target/tools-build
	rm -rf target/tools-build
