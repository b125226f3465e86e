"""Compose files: read, checked against the specification's schema, merged, and turned into specs.

Nothing here talks to a cluster. Files are read through a function that the caller gives, so that
all else is pure.
"""
