"""Parts of build-image; each module has one step."""
