"""Our messages as the Docker Engine API writes them in JSON, and back. Pure.

One module per noun: what `inspect` prints, and what Docker's own clients are served. Keys, casing,
what is left out when empty, and units (nanoseconds, bytes) are those of the Engine API's types
(github.com/moby/moby, api/types/swarm), checked against what a Docker daemon answers.
"""
