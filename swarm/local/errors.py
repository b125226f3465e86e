"""What goes wrong with a local cluster."""


class LocalError(Exception):
    """One line: what is wrong, and what to do."""
