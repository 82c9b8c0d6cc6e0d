# Set-up, build and tests without nixpkgs. With nixpkgs, use `nix run .#agent` and `nix flake check`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# PREFIX: installation directory. REPO: repository for which `make agent` creates a machine. ARGS: arguments for agent-vm, split
# at spaces.
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
REPO ?= $(CURDIR)
ARGS ?=
# Use the values without expansion: make would expand a $ in them.
override PREFIX := $(if $(filter file default,$(origin PREFIX)),$(PREFIX),$(value PREFIX))
override REPO := $(if $(filter file default,$(origin REPO)),$(REPO),$(value REPO))
override ARGS := $(value ARGS)
export PREFIX REPO ARGS
# rustup's cargo is on PATH only after a new login.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CARGO := cargo
CRATE := --manifest-path agent-vm-rs/Cargo.toml --target-dir agent-vm-rs/target --locked

.PHONY: help agent install program uninstall setup setup-check check fmt bench soak

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 20
	@echo 'Variables: PREFIX=DIR (installation directory), REPO=DIR (repository), ARGS="…" (arguments for agent-vm)'

agent: ## install agent-vm, and create and start a machine for REPO's current branch
	@scripts/require-repository "$$REPO"
	@# With these options the machine needs another image than the default one.
	@case $$ARGS in *--package* | *--server* | *--guest*) scripts/setup build ;; *) scripts/setup image ;; esac
	@$(MAKE) program
	@cd -- "$$REPO" && set -f && exec "$$PREFIX/bin/agent-vm" $$ARGS

install: ## build agent-vm and install it with its toolkit below PREFIX
	@scripts/setup build
	@$(MAKE) program

# Compiles agent-vm and the gateway if set-up has not, and installs them.
program:
	@scripts/setup part compile_gateway
	@$(CARGO) build $(CRATE) --release
	@scripts/install agent-vm-rs/target/release/agent-vm "$$PREFIX"
	@case :$$PATH: in *:"$$PREFIX/bin":*) ;; \
	    *) echo "note: $$PREFIX/bin is not on your PATH: export PATH=\"$$PREFIX/bin:\$$PATH\"" >&2 ;; esac

uninstall: ## remove agent-vm and its toolkit; machines and Debian packages stay
	@scripts/install --remove "$$PREFIX"

setup: ## install what agent-vm needs
	@scripts/setup run

setup-check: ## also install what the tests need
	@scripts/setup check

check: setup-check ## run every test
	@checks/run

fmt: setup-check ## format Rust and Nix
	@$(CARGO) fmt --all --manifest-path agent-vm-rs/Cargo.toml
	@git ls-files -co --exclude-standard -- '*.nix' ':!agent-vm-rs/render' | \
	    xargs -d '\n' "$${XDG_CACHE_HOME:-$$HOME/.cache}/agent-vm/check-tools/nixfmt"

soak: setup-check ## run random commands and kills for an hour, or SECONDS=…
	@AGENT_VM_SOAK_SECONDS=$(or $(SECONDS),3600) $(CARGO) nextest run $(CRATE) --cargo-profile release \
	    --config-file checks/nextest.toml --profile soak --no-capture -E 'test(/^stress::commands/)'

bench: install ## run the benchmarks; docs/reference/performance.md has the results
	@checks/bench/agents --program "$$PREFIX/bin/agent-vm"
	@checks/bench/boot --program "$$PREFIX/bin/agent-vm"
	@checks/bench/commands --program "$$PREFIX/bin/agent-vm"
	@checks/bench/many --program "$$PREFIX/bin/agent-vm"
	@checks/bench/destroy --program "$$PREFIX/bin/agent-vm"
	@checks/bench/git --program "$$PREFIX/bin/agent-vm"
	@checks/bench/gateway
	@checks/bench/memory --program "$$PREFIX/bin/agent-vm"
	@$(CARGO) bench $(CRATE) --bench render
