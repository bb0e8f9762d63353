"""Validate the options of a scorer behind an API: keys, addresses, prices and numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TypedDict
from urllib.parse import urlsplit

from t2v_eval.errors import InputError
from t2v_eval.remote.cost import Price
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.text_file import read_text


def resolve_api_key(
    key: str | None,
    key_file: str | os.PathLike[str] | None = None,
    source: str = "`api_key=`",
    file_option: str = "key_file",
) -> str:
    r"""Return the key that was passed or that a file holds; "" without either.

    Args:
        key: the key.
        key_file: a file that holds the key and nothing else.
        source: where the key comes from, for messages.
        file_option: the option that names the file, for messages.

    Raises:
        InputError: it is not a valid key; the message does not contain it.

    >>> resolve_api_key(" abc\n"), resolve_api_key(None)
    ('abc', '')
    """
    if not key and key_file:
        source = f"`{file_option}={os.fspath(key_file)!r}`"
        try:
            key = read_text(check_path(file_option, key_file))
        except (OSError, ValueError) as error:
            raise InputError(f"{source} cannot be read: {error}") from None
        if not key.strip():
            raise InputError(f"{source} must hold one key and nothing else")
    key = (key or "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"{source} must hold one key and nothing else")
    return key


def check_base_url(url: str, source: str = "`base_url=`") -> str:
    """Return a valid address without trailing slashes.

    Args:
        url: the address.
        source: where it comes from, for messages.

    Raises:
        InputError: it is not valid; the message suggests a correction and contains no key.

    >>> check_base_url("http://localhost:8000/v1/")
    'http://localhost:8000/v1'
    """
    if not isinstance(url, str) or not url.strip():
        raise InputError(f"{source} must be an address such as http://localhost:8000/v1")
    if re.search(r"[@?#]", url):
        raise InputError(
            f"{source} must be an address alone, without user, password or anything after '?': it "
            "is part of the scorer's id. Pass the key as `api_key=`; Azure's address without an "
            "api-version is https://NAME.openai.azure.com/openai/v1"
        )
    if not all("!" <= character <= "~" for character in url) or re.search(r'[\\<>"{}|^`]', url):
        raise InputError(
            f"{source} holds a space or another character that no address has; write the name of "
            "a host that is not ASCII as xn--..., and other characters as %20 and the like"
        )
    scheme, colons, _ = url.partition("://")
    if not colons:
        local = re.match(r"localhost\b|[\d.]+(:|/|$)|\[", url)
        suggestion = f"{'http' if local else 'https'}://{url}"
        plausible = (local or "." in url) and not _host_problem(suggestion)
        hint = f"; is {suggestion} meant?" if plausible else ""
        raise InputError(f"{source} must be an address such as http://localhost:8000/v1{hint}")
    if scheme.lower() not in ("http", "https"):
        raise InputError(f"{source} must begin with http:// or https://, not with {scheme}://")
    if problem := _host_problem(url):
        raise InputError(f"{source}: {problem}, as in http://localhost:8000/v1")
    url = url.rstrip("/")
    if suffix := _CLIENT_PATH.search(url):
        raise InputError(
            f"{source} must not contain the path of a request ({suffix[0]}), which is appended to "
            f"it. Pass {url[: suffix.start()]}"
        )
    return url


# Paths that clients append to an address themselves.
_CLIENT_PATH = re.compile(r"/((chat/)?completions|responses|(v1\w*/)?models/[^/]+:\w+)/*$")


def _host_problem(url: str) -> str:
    """Return the problem of an address's host and port, or ""."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and ("[" in parts.netloc or re.fullmatch(r"\d+(\.\d+){3}", host)):
            ip_address(host)
            return "" if port != 0 and not parts.netloc.endswith(":") else PORT_PROBLEM
    except ValueError as error:
        return (
            PORT_PROBLEM
            if str(error).startswith("Port")
            else "its host is no address of the network"
        )
    names = (host or "").removesuffix(".").split(".")
    if not all(re.fullmatch(r"[\w-]{1,63}", name) for name in names) or len(host or "") > 253:
        return "it names no host"
    return "" if port != 0 and not parts.netloc.endswith(":") else PORT_PROBLEM


PORT_PROBLEM = "its port must be a number from 1 to 65535"


class ClientKwargs(TypedDict):
    """Arguments of an httpx client.

    >>> ClientKwargs(follow_redirects=False, trust_env=True)["trust_env"]
    True
    """

    follow_redirects: bool
    trust_env: bool


def client_kwargs(base_url: str) -> ClientKwargs:
    """Return the arguments of a client that sends images and keys to no other host.

    Redirects are not followed. A proxy of the environment tunnels https, which it cannot read; it
    could read http, so it is not used there.

    >>> client_kwargs("http://localhost:8000/v1")
    {'follow_redirects': False, 'trust_env': False}
    """
    return {"follow_redirects": False, "trust_env": urlsplit(base_url).scheme == "https"}


def parse_price(price: Sequence[float]) -> Price:
    """Return the price of (input, output), in US dollars for a million tokens.

    Raises:
        InputError: these are not two numbers of 0 or more.

    >>> parse_price([2.5, 10.0]).cost(1_000_000, 0)
    2.5
    """
    if (
        isinstance(price, str)
        or len(price) != 2
        or not all(isinstance(dollars, (int, float)) and dollars >= 0 for dollars in price)
    ):
        raise InputError(
            f"`price={price!r}`; pass two numbers: US dollars for a million tokens in, out"
        )
    return Price(price[0], price[1])


def require_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    """Raise InputError unless a value is one of `choices`.

    >>> require_choice("rule", "any", ("probability", "yes-no"))
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `rule='any'`; use 'probability' or 'yes-no'
    """
    if value not in choices:
        named = [repr(choice) for choice in choices if choice]
        raise InputError(f"`{name}={value!r}`; use {' or '.join(named)}")


def require_int_in(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a value is an integer from `low` to `high`.

    >>> require_int_in("n", 0, 1, 1000)
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `n=0`; pass a whole number from 1 to 1000
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"`{name}={value!r}`; pass a whole number from {low} to {high}")


def require_text(name: str, value: object) -> None:
    """Check that an argument is a text, or None.

    Raises:
        InputError: it is not.

    >>> require_text("system", "You are a judge.")
    """
    if value is not None and not isinstance(value, str):
        raise InputError(f"`{name}={value!r}`; pass a text")
