"""The Docker Engine as a runtime, through its API; Podman's socket speaks it too."""
