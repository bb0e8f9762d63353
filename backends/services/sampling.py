"""Sampling parameters that requests send, and what an error says about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .messages import ErrorInfo

# Turn off the sampling defaults of a server, so that it samples from the model's distribution. A
# server that rejects a parameter is asked again without it.
NEUTRAL_PARAMS = {"top_k": -1, "min_p": 0, "repetition_penalty": 1}
SAMPLING_PARAMS = {"top_p", "temperature", *NEUTRAL_PARAMS}
_UNKNOWN_PARAM = re.compile(
    r"(unknown|unrecogni[sz]ed|unsupported|unexpected|extra|additional|invalid)\W+(\w+\W+)?"
    r"(param|arg|field|input|propert|key)",
    re.IGNORECASE,
)


def rejected_params(info: ErrorInfo, params: Mapping[str, Any]) -> set[str]:
    """Return the sampling parameters that an error rejects and a request can omit.

    Args:
        info: the error of the service.
        params: the sampling parameters of the request and their values.

    Returns:
        Names in `params`. The temperature is among them only where it is 1, the default of
        services, and where the error names no other parameter.

    >>> params = {"temperature": 1, "top_p": 1, "top_k": -1}
    >>> rejected_params(ErrorInfo(400, "Unsupported parameter: 'top_p'"), params)
    {'top_p'}
    >>> rejected_params(ErrorInfo(400, "topK is not supported"), params)
    {'top_k'}
    >>> rejected_params(ErrorInfo(400, "temperature must be 1"), {"temperature": 0.0})
    set()
    """
    if info.status not in (400, 422):
        return set()
    names = {
        name
        for name in SAMPLING_PARAMS
        if re.search(name.replace("_", "_?"), info.message, re.IGNORECASE)
    }
    if not names and (not info.message or _UNKNOWN_PARAM.search(info.message)):
        names = set(NEUTRAL_PARAMS)
    names = (names - {"temperature"} or names) & params.keys()
    return set() if "temperature" in names and params["temperature"] != 1 else names
