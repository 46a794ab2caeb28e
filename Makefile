# Sakimori. `make` shows the targets.
#
# Build results lie in the user's cache folder, so that every clone and CI share what was compiled once.
# `make up`, `make demo` and `make test` use one profile; `make bench` builds releases.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sakimori
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/release
VENV := $(CACHE)/venv

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

packages: ## install the Debian packages that are missing
	@tools/packages run

console: ## build the web console, where Node is there and something changed
	@tools/console

build: packages console ## build the programs
	@echo "building (a clean first build compiles every dependency; later ones take seconds)"
	@cargo build --locked -p sakimori-cli -p sakimori-agent

up: build ## start the whole platform on this machine and prove that the loop works (LINK=192.0.2.1:7601: for other hosts too)
	@tools/deb-beside $(BIN)
	@$(BIN)/sakimori up $(if $(LINK),--link $(LINK))

# SAKIMORI_BIN names a folder with programs that are built already.
PREFIX ?= /usr/local
install: ## build, and put the commands where every user and sudo find them (PREFIX=/usr/local)
ifndef SAKIMORI_BIN
	@$(MAKE) --no-print-directory build
endif
	@tools/deb-beside $(or $(SAKIMORI_BIN),$(BIN))
	@tools/install $(or $(SAKIMORI_BIN),$(BIN)) $(PREFIX)/bin

uninstall: ## take them away again
	@tools/install --remove $(PREFIX)/bin

down: ## stop it and leave the host's nftables as it was
	@if [ -x $(BIN)/sakimori ]; then $(BIN)/sakimori down; else echo "nothing is built here, so nothing of it runs"; fi

$(VENV)/.moto: tools/moto-requirements.txt
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tools/moto-requirements.txt
	@touch $@

demo: ## play the attack story in network namespaces and print what happened when
	@tools/packages test
	@tools/console
	@$(MAKE) --no-print-directory $(VENV)/.moto
	@cargo build --locked -p sakimori-cli -p sakimori-agent -p sakimori-bench
	@SAKIMORI_MOTO=$(VENV)/bin/moto_server $(BIN)/sakimori-bench demo

test: ## run every test
	@tools/packages test
	@tools/console
	@$(MAKE) --no-print-directory $(VENV)/.moto
	@cargo build --locked --workspace --all-targets --timings
	@$(BIN)/xtask costs
	@tools/tests $(VENV)/bin/moto_server $(BIN)

deb: ## pack sakimori-agent as a Debian package, for hosts to be protected
ifndef SAKIMORI_BIN
	@tools/packages run
	@cargo build --locked --release -p sakimori-agent
endif
	@tools/deb $(or $(SAKIMORI_BIN),$(RELEASE)) $(CACHE)/deb
	@[ ! -d $(BIN) ] || cp $(CACHE)/deb/sakimori-agent_*.deb $(BIN)

parity: build ## hold the network engine against the alerts of a real Suricata 7 (FOLDER=… with cases.tsv)
	@python3 tools/parity $(BIN)/sakimori $(or $(FOLDER),../shared/corpora/suricata-verify)

lint: ## formatting, clippy, licences (needs cargo-deny for the last)
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else echo "cargo-deny is not installed: licences were not checked"; fi

bench: ## build release binaries and print how to measure with them
	@tools/packages test
	@tools/console
	@cargo build --locked --release -p sakimori-cli -p sakimori-agent -p sakimori-bench
	@$(RELEASE)/sakimori-bench --help

fuzz: ## run each fuzz target for a minute (SECONDS=…; needs cargo-fuzz)
	@tools/fuzz $(or $(SECONDS),60)

.PHONY: help packages console build up install uninstall down demo test lint deb parity bench fuzz
