"""What a user gives a scorer behind an API: keys, addresses, prices and numbers, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from t2v_eval.errors import InputError
from t2v_eval.remote.cost import Price
from t2v_eval.utils.regular_file import read_text


def given_key(
    key: str | None, key_file: str | os.PathLike[str] | None = None, where: str = "api_key="
) -> str:
    """The key that was passed, or that a file holds; "" where neither is.

    Raises:
        InputError: it cannot be one; the message does not show it.
    """
    if not key and key_file:
        where = f"key_file={os.fspath(key_file)!r}"
        try:
            key = read_text(Path(key_file).expanduser())
        except (OSError, ValueError) as error:
            raise InputError(f"{where} cannot be read: {error}") from None
        if not key.strip():
            raise InputError(f"{where} must hold one key and nothing else")
    key = (key or "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"{where} must hold one key and nothing else")
    return key


def checked_address(url: str, where: str = "base_url=") -> str:
    """An address that a client can ask, without the slashes at its end.

    Raises:
        InputError: it is none; the message says what may be meant, and shows no key.
    """
    if not isinstance(url, str) or not url.strip():
        raise InputError(f"{where} must be an address such as http://localhost:8000/v1")
    if re.search(r"[@?#]", url):
        raise InputError(
            f"{where} must be an address alone, without user, password or anything after '?': it "
            "is part of the scorer's id. Pass the key as api_key=; Azure's address without an "
            "api-version is https://NAME.openai.azure.com/openai/v1"
        )
    if not all("!" <= character <= "~" for character in url) or re.search(r'[\\<>"{}|^`]', url):
        raise InputError(
            f"{where} holds a space or another character that no address has; write the name of "
            "a host that is not ASCII as xn--..., and other characters as %20 and the like"
        )
    scheme, colons, _ = url.partition("://")
    if not colons:
        local = re.match(r"localhost\b|[\d.]+(:|/|$)|\[", url)
        meant = f"{'http' if local else 'https'}://{url}"
        plausible = (local or "." in url) and not _host_problem(meant)
        hint = f"; is {meant} meant?" if plausible else ""
        raise InputError(f"{where} must be an address such as http://localhost:8000/v1{hint}")
    if scheme.lower() not in ("http", "https"):
        raise InputError(f"{where} must begin with http:// or https://, not with {scheme}://")
    if problem := _host_problem(url):
        raise InputError(f"{where}: {problem}, as in http://localhost:8000/v1")
    url = url.rstrip("/")
    if called := CALLED.search(url):
        raise InputError(
            f"{where} is where an address begins: what is called ({called[0]}) is added to it. "
            f"Pass {url[: called.start()]}"
        )
    return url


# What clients add to an address themselves.
CALLED = re.compile(r"/((chat/)?completions|responses|(v1\w*/)?models/[^/]+:\w+)/*$")


def _host_problem(url: str) -> str:
    """What is wrong with host and port of an address; "" where nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and ("[" in parts.netloc or re.fullmatch(r"\d+(\.\d+){3}", host)):
            ip_address(host)
            return "" if port != 0 and not parts.netloc.endswith(":") else PORT
    except ValueError as error:
        return PORT if str(error).startswith("Port") else "its host is no address of the network"
    names = (host or "").removesuffix(".").split(".")
    if not all(re.fullmatch(r"[\w-]{1,63}", name) for name in names) or len(host or "") > 253:
        return "it names no host"
    return "" if port != 0 and not parts.netloc.endswith(":") else PORT


PORT = "its port must be a number from 1 to 65535"


class Directly(TypedDict):
    follow_redirects: bool
    trust_env: bool


def directly(base_url: str) -> Directly:
    """How a client reaches an address without passing on a picture or a key to any other host.

    A redirect is not followed. A proxy of the environment gets what goes to an https address as a
    tunnel, which it cannot read; it could read all that goes to an http address, so that is asked
    without one.
    """
    return {"follow_redirects": False, "trust_env": urlsplit(base_url).scheme == "https"}


def given_price(price: Sequence[float]) -> Price:
    if (
        isinstance(price, str)
        or len(price) != 2
        or not all(isinstance(dollars, (int, float)) and dollars >= 0 for dollars in price)
    ):
        raise InputError(
            f"price={price!r}; pass two numbers: US dollars for a million tokens in, out"
        )
    return Price(price[0], price[1])


def one_of(what: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        named = [repr(choice) for choice in choices if choice]
        raise InputError(f"{what}={value!r}; use {' or '.join(named)}")


def between(what: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{what}={value!r}; pass a whole number from {low} to {high}")
