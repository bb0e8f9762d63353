"""The environment of the templates of pages: escaped, strict, without blank lines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from t2v_eval.report.format import PAGE
from t2v_eval.utils.printable import printable


@functools.cache
def environment(package: str = "t2v_eval.report", /, **filters: Callable[..., Any]) -> Environment:
    """Return an environment whose templates lie in a package, or else in this one.

    Args:
        package: the package, whose templates are compiled once.
        filters: filters besides `number` (as on pages) and `name` (a name from outside); functions
            of a module, since each set of them has an environment that stays.

    >>> environment().from_string("{{ '<b>' | name }} {{ -0.25 | number(2) }}").render()
    '&lt;b&gt; −0.25'
    """
    result = Environment(
        loader=ChoiceLoader([PackageLoader(p, ".") for p in (package, "t2v_eval.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters |= {"number": PAGE.number, "name": printable, **filters}
    return result
