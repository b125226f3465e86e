"""Go's text/template over JSON-like values, with the functions of Docker's client. Pure.

It serves `--format` of the command line and the templates in service specs. Source: the
documentation of Go's package text/template; differences are in `Template.render`.

    >>> Template.parse("{{.Name | upper}}").render({"Name": "web"})
    'WEB'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from swarm.gotemplate import nodes
from swarm.gotemplate.errors import TemplateError
from swarm.gotemplate.evaluator import Execution, Limits
from swarm.gotemplate.functions import to_json
from swarm.gotemplate.parser import parse

OWN_LIMITS = Limits(steps=2_000_000, characters=64 << 20)
"""For templates of the user who runs the program: guards against mistakes only."""

UNTRUSTED_LIMITS = Limits(steps=20_000, characters=256 << 10)
"""For templates that came with a request: some 20 ms of work and 256 Ki characters."""


class Template:
    """A parsed template; may be rendered any number of times."""

    def __init__(self, tree: nodes.Tree) -> None:
        self._tree = tree

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse `text`. Raises TemplateError, e.g. `template: :1: unclosed action`."""
        return cls(parse(text))

    def render(
        self,
        data: object,
        strict: bool = False,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        limits: Limits = OWN_LIMITS,
        absent: Mapping[str, object] | None = None,
    ) -> str:
        """The text for `data` (dict, list, str, int, float, bool, None).

        A key that is not there prints as `<no value>`; with `strict` it is an error. One that
        `absent` has is there in every map that lacks it, with that value. `functions` come on top
        of the standard ones. A callable in a map is a method: `{{.Label "x"}}`. Unlike Go's, `join`
        takes a list of anything. Raises TemplateError only.
        """
        execution = Execution(
            self._tree,
            data,
            strict=strict,
            functions=functions or {},
            limits=limits,
            absent=absent or {},
        )
        try:
            return execution.run()
        except RecursionError:
            raise TemplateError("template: nested too deep") from None


__all__ = ["OWN_LIMITS", "UNTRUSTED_LIMITS", "Limits", "Template", "TemplateError", "to_json"]
