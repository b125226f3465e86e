"""The one exception of this package."""

from __future__ import annotations


class TemplateError(Exception):
    """A template that does not parse or can't be rendered; one line in the words of Go."""
