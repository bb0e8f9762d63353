"""Gemini through Vertex AI: where it is asked, and with whose credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import google.auth
from google.auth import exceptions

from t2v_eval.errors import InputError, ServiceError
from t2v_eval.remote.request_pool import RetryError

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
CONTINENTS = ("us", "eu")  # locations with addresses of another form
SIGN_IN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the "
    "file of a service account"
)


@dataclass
class Vertex:
    """A project at a location; `keyed` where a key stands in the place of credentials."""

    project: str | None
    location: str
    credentials: Any = field(repr=False)
    keyed: bool

    @property
    def home(self) -> str:
        """Google's address for the location."""
        if self.location == "global":
            return "https://aiplatform.googleapis.com"
        if self.location in CONTINENTS:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    def check_address(self, address: str) -> None:
        """Refuse to send credentials where others could read them."""
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

    def signed_in(self) -> Callable[[], str]:
        """Load the credentials where none were passed; what tells their token, which changes."""
        if self.credentials is None or self.project is None:
            try:
                held, project = google.auth.default(scopes=SCOPES)
            except exceptions.GoogleAuthError as error:
                if self.credentials is None:
                    raise InputError(f"Vertex AI needs credentials: {SIGN_IN} ({error})") from None
            else:
                self.credentials = self.credentials or held
                self.project = self.project or project
        if not self.project:
            raise InputError("Vertex AI needs a project: pass project=, or set " + PROJECT)
        _check("project", self.project)
        return lambda: getattr(self.credentials, "token", None) or ""

    def given(self) -> dict[str, Any]:
        """What a client is made with."""
        return {
            "project": self.project,
            "location": self.location,
            "credentials": self.credentials,
        }

    def refused(self, address: str, status: int, message: str) -> ServiceError:
        """What to say where the service refuses who asks."""
        who = "the key" if self.keyed else "the credentials"
        told = f": {message[:300]}" if status == 403 else ""  # others may repeat a part of a key
        return ServiceError(
            f"{address} refuses {who} (status {status}){told}; check that they may use Vertex AI "
            f"in the project {self.project!r}, or {SIGN_IN}"
        )


PROJECT = "GOOGLE_CLOUD_PROJECT"
LOCATION = "GOOGLE_CLOUD_LOCATION"
VARIABLES = ("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI")  # in Google's own order


def vertex_of(
    vertexai: bool | None,
    project: str | None,
    location: str | None,
    credentials: Any,
    keyed: bool,
    elsewhere: bool,
) -> Vertex | None:
    """How Vertex AI is asked; None where the Developer API is.

    Args:
        keyed: whether a key was passed.
        elsewhere: whether it is said where else to ask, so that variables do not decide.
    """
    if vertexai is not None and not isinstance(vertexai, bool):
        raise InputError(f"vertexai={vertexai!r}; pass True or False")
    if vertexai is None and not elsewhere:
        named = next((os.environ[name] for name in VARIABLES if name in os.environ), "")
        vertexai = named.lower() in ("true", "1")
    if not vertexai:
        if project or location or credentials is not None:
            raise InputError(
                "project=, location= and credentials= are of Vertex AI: pass vertexai=True too"
            )
        return None
    if keyed and (project or location or credentials is not None):
        raise InputError(
            "a key of Vertex AI has a project of its own: pass api_key= alone, or project= and "
            "location= without it"
        )
    if not keyed:
        project = project or os.environ.get(PROJECT) or None
        location = location or os.environ.get(LOCATION) or None
    for what, value in (("project", project), ("location", location)):
        if value is not None:
            _check(what, value)
    return Vertex(project, location or "global", credentials, keyed)


def _check(what: str, value: str) -> None:
    """Refuse what is no part of an address."""
    allowed = r"[a-z0-9-]+" if what == "location" else r"[A-Za-z0-9.:_-]+"
    if not isinstance(value, str) or not re.fullmatch(allowed, value):
        raise InputError(f"{what}={value!r} is no {what} of Google Cloud")


def sign_in_problem(error: BaseException) -> Exception | None:
    """What to say where the credentials do not do; None where the error is another one."""
    if isinstance(error, exceptions.TransportError):
        return RetryError(f"Google cannot be reached to sign in ({type(error).__name__})")
    if isinstance(error, exceptions.GoogleAuthError):
        why = re.sub(r"\s+", " ", str(error.args[0] if error.args else error))[:200]
        return ServiceError(f"Google refuses the credentials: {why}; {SIGN_IN}")
    return None
