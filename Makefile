# Set-up, build and test on a machine without nixpkgs. With nixpkgs: `nix run .#agent`, `nix flake check`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# PREFIX: where agent-vm is installed. REPO: the repository that gets a machine. ARGS: arguments of agent-vm, split at spaces.
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
REPO ?= $(CURDIR)
ARGS ?=
# The values as given: make would expand a $ in them, and the shell would split them.
override PREFIX := $(if $(filter file default,$(origin PREFIX)),$(PREFIX),$(value PREFIX))
override REPO := $(if $(filter file default,$(origin REPO)),$(REPO),$(value REPO))
override ARGS := $(value ARGS)
export PREFIX REPO ARGS
# rustup puts cargo where only a new login finds it.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CARGO := cargo
CRATE := --manifest-path agent-vm-rs/Cargo.toml --target-dir agent-vm-rs/target --locked

.PHONY: help agent install program uninstall setup setup-check check fmt bench

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 20
	@echo 'PREFIX=DIR installs there, REPO=DIR names a repository, ARGS="…" goes to agent-vm.'

agent: ## give the repository REPO a machine for its current branch, or show the one it has
	@if [[ ! -d $$REPO ]]; then echo "error: there is no directory $$REPO" >&2; exit 1; fi
	@# The image of a guest with default settings is of no use to a machine that is to have others.
	@case $$ARGS in *--package* | *--server* | *--guest*) scripts/setup build ;; *) scripts/setup image ;; esac
	@$(MAKE) program
	@cd -- "$$REPO" && set -f && exec "$$PREFIX/bin/agent-vm" $$ARGS

install: ## build agent-vm and install it with its toolkit below PREFIX
	@scripts/setup build
	@$(MAKE) program

# What is left to compile after set-up, and the installation.
program:
	@$(CARGO) build $(CRATE) --release
	@scripts/install agent-vm-rs/target/release/agent-vm "$$PREFIX"
	@case :$$PATH: in *:"$$PREFIX/bin":*) ;; \
	    *) echo "note: $$PREFIX/bin is not on your PATH: export PATH=\"$$PREFIX/bin:\$$PATH\"" >&2 ;; esac

uninstall: ## remove what install installed; machines and Debian packages stay
	@scripts/install --remove "$$PREFIX"

setup: ## install what agent-vm needs
	@scripts/setup run

setup-check: ## install what the tests need, too
	@scripts/setup check

check: setup-check ## run every test
	@checks/run

fmt: setup-check ## format Rust and Nix
	@$(CARGO) fmt --manifest-path agent-vm-rs/Cargo.toml
	@git ls-files -co --exclude-standard -- '*.nix' ':!agent-vm-rs/render' | \
	    xargs -d '\n' "$${XDG_CACHE_HOME:-$$HOME/.cache}/agent-vm/check-tools/nixfmt"

bench: install ## measure start, list, exec, stop and rendering; figures are kept in docs/reference/performance.md
	@checks/bench/boot --program "$$PREFIX/bin/agent-vm"
	@checks/bench/commands --program "$$PREFIX/bin/agent-vm"
	@checks/bench/destroy --program "$$PREFIX/bin/agent-vm"
	@$(CARGO) bench $(CRATE) --bench render
