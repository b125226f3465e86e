"""Containers with no engine: an OCI image layout, overlay roots, runc or crun, namespaces."""
