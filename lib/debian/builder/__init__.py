"""Modules of build-image."""
