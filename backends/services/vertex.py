"""Vertex AI: address, project and credentials."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google.auth
from google.auth import exceptions

from t2v_eval.errors import InputError, ServiceError
from t2v_eval.remote.request_pool import RetryError
from t2v_eval.utils.regular_file import read_bytes

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
CONTINENTS = ("us", "eu")  # locations with addresses of another form
SIGN_IN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the "
    "file of a service account"
)


@dataclass
class Vertex:
    """A project of Vertex AI at a location.

    Attributes:
        project: the project; None for that of the credentials.
        location: the location, for example "global" or "us-central1".
        credentials: google-auth's credentials; None for the application default credentials.
        has_key: whether an API key replaces credentials.

    >>> Vertex("my-project", "global", credentials=None, has_key=False).default_base_url
    'https://aiplatform.googleapis.com'
    """

    project: str | None
    location: str
    credentials: Any = field(repr=False)
    has_key: bool

    @property
    def default_base_url(self) -> str:
        """Google's address of the location."""
        if self.location == "global":
            return "https://aiplatform.googleapis.com"
        if self.location in CONTINENTS:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    def check_address(self, address: str) -> None:
        """Raise InputError where credentials would be sent unencrypted."""
        parts = urlsplit(address)
        host = parts.hostname or ""
        try:
            local = ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
        if parts.scheme != "https" and not local:
            raise InputError(
                f"credentials of Google are sent to https addresses only, not to {address}"
            )

    def load_credentials(self) -> Callable[[], str]:
        """Load the credentials if none were passed; return a getter of their current token."""
        if self.credentials is None or self.project is None:
            try:
                loaded, project = _default_credentials()
            except exceptions.GoogleAuthError as error:
                if self.credentials is None:
                    raise InputError(f"Vertex AI needs credentials: {SIGN_IN} ({error})") from None
            else:
                self.credentials = self.credentials or loaded
                self.project = self.project or project
        if not self.project:
            raise InputError("Vertex AI needs a project: pass `project=`, or set " + PROJECT)
        _check("project", self.project)
        return lambda: getattr(self.credentials, "token", None) or ""

    def client_options(self) -> dict[str, Any]:
        """Return the arguments of a client."""
        return {
            "project": self.project,
            "location": self.location,
            "credentials": self.credentials,
        }

    def credentials_error(self, address: str, status: int, message: str) -> ServiceError:
        """Return the error where the service refuses the key or the credentials."""
        credentials = "the key" if self.has_key else "the credentials"
        suffix = f": {message[:300]}" if status == 403 else ""  # others may repeat a part of a key
        return ServiceError(
            f"{address} refuses {credentials} (status {status}){suffix}; check that they may use "
            f"Vertex AI in the project {self.project!r}, or {SIGN_IN}"
        )


PROJECT = "GOOGLE_CLOUD_PROJECT"
LOCATION = "GOOGLE_CLOUD_LOCATION"
VARIABLES = ("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI")  # in Google's own order


def choose_vertex(
    vertexai: bool | None,
    project: str | None,
    location: str | None,
    credentials: Any,
    has_key: bool,
    elsewhere: bool,
) -> Vertex | None:
    """Return the settings of Vertex AI, or None to use the Developer API.

    Args:
        vertexai: whether to use Vertex AI; None: as the environment variables say.
        project: the project; default: the environment variable GOOGLE_CLOUD_PROJECT.
        location: the location; default: GOOGLE_CLOUD_LOCATION of the environment, then "global".
        credentials: google-auth's credentials; default: the application default credentials.
        has_key: whether a key was passed.
        elsewhere: whether an address or a key was passed, so that environment variables are
            ignored.

    Raises:
        InputError: options contradict each other or are not valid.

    >>> choose_vertex(True, "my-project", "eu", None, has_key=False, elsewhere=False).location
    'eu'
    >>> choose_vertex(False, None, None, None, has_key=True, elsewhere=True) is None
    True
    """
    if vertexai is not None and not isinstance(vertexai, bool):
        raise InputError(f"`vertexai={vertexai!r}`; pass True or False")
    if vertexai is None and not elsewhere:
        named = next((os.environ[name] for name in VARIABLES if name in os.environ), "")
        vertexai = named.lower() in ("true", "1")
    if not vertexai:
        if project or location or credentials is not None:
            raise InputError(
                "`project=`, `location=` and `credentials=` are of Vertex AI: pass "
                "`vertexai=True` too"
            )
        return None
    if has_key and (project or location or credentials is not None):
        raise InputError(
            "a key of Vertex AI has a project of its own: pass `api_key=` alone, or `project=` and "
            "`location=` without it"
        )
    if not has_key:
        project = project or os.environ.get(PROJECT) or None
        location = location or os.environ.get(LOCATION) or None
    for what, value in (("project", project), ("location", location)):
        if value is not None:
            _check(what, value)
    return Vertex(project, location or "global", credentials, has_key)


def _default_credentials() -> tuple[Any, str | None]:
    """Return the application default credentials and their project, as google-auth finds them."""
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    try:
        content = read_bytes(Path(path)) if path else b""
    except OSError:
        content = b""  # google-auth says what is wrong
    if content.startswith(codecs.BOM_UTF8):  # which google-auth cannot read
        try:
            info = json.loads(content.decode("utf-8-sig"))
        except ValueError as error:
            raise InputError(
                f"GOOGLE_APPLICATION_CREDENTIALS={path!r} is not valid JSON: {error}"
            ) from None
        loaded = google.auth.load_credentials_from_dict(info, scopes=SCOPES)  # type: ignore[no-untyped-call]
    else:
        loaded = google.auth.default(scopes=SCOPES)
    return loaded[0], loaded[1]


def _check(what: str, value: str) -> None:
    """Raise InputError for a value that cannot be part of an address."""
    allowed = r"[a-z0-9-]+" if what == "location" else r"[A-Za-z0-9.:_-]+"
    if not isinstance(value, str) or not re.fullmatch(allowed, value):
        raise InputError(f"`{what}={value!r}` is no {what} of Google Cloud")


def sign_in_error(error: BaseException) -> Exception | None:
    """Return the error for rejected credentials; None for an error that is not about them.

    >>> sign_in_error(exceptions.RefreshError("expired")).__class__.__name__
    'ServiceError'
    >>> sign_in_error(ValueError()) is None
    True
    """
    if isinstance(error, exceptions.TransportError):
        return RetryError(f"Google cannot be reached to sign in ({type(error).__name__})")
    if isinstance(error, exceptions.GoogleAuthError):
        why = re.sub(r"\s+", " ", str(error.args[0] if error.args else error))[:200]
        return ServiceError(f"Google refuses the credentials: {why}; {SIGN_IN}")
    return None
