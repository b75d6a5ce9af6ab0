"""Passwords, keys and signatures in URIs: what a store needs to know, and nobody who reads a file or a message.

A URI is split as soon as it is located: its path, which is stored and shown everywhere, has no secrets, and the file
system gets them as options.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_URI = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]+://[^\s'"<>|]+""")
_HTTP = ("http", "https")
_OF_KEYS = ("s3", "s3a")  # user and password are key and secret
_NOT_SECRET = ("github",)  # github://organisation:repository@commit
# Parameters of signed URLs: of S3, Google Cloud Storage, CloudFront and their like.
_SECRET = re.compile(
    r"x-(amz|goog|oss|cos|ms)-.*|.*(token|secret|passw|signature|credential|api[-_]?key|accesskey|accessid).*|"
    r"sig|pwd|key|auth|jwt|expires|policy|key-pair-id",
    re.IGNORECASE,
)
_BESIDE_SIG = re.compile("s[a-z]{1,4}")  # of Azure: sp, st, se, sv, sr, spr, skoid, …; they come with sig


def split_credentials(uri: str, options_of: Callable[[str], Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The URI without secrets, and the options by which its file system gets them.

    A URI whose file system takes no password stays as it is.

    Args:
        options_of: the options that the file system takes from a URI.
    """
    scheme, user, password = _user(uri)
    options: dict[str, Any] = {}
    if scheme in _HTTP:
        if secret := [(name, value) for name, value in _query(uri) if _is_secret(name, uri)]:
            options["params"] = dict(secret)
        if user or password:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            options["client_kwargs"] = {"headers": {"Authorization": f"Basic {token}"}}
    elif scheme in _OF_KEYS and password:
        options = {"key": user, "secret": password}
    elif password:
        options = {name: options_of(uri).get(name) for name in ("username", "password")}
        if not options["password"]:
            return uri, {}
    return (without_secrets(uri), options) if options else (uri, {})


def is_signed(uri: str) -> bool:
    """Whether the query of the URI holds a signature or a token."""
    return any(_is_secret(name, uri) for name, _ in _query(uri))


def without_secrets(text: str) -> str:
    """``text`` with the passwords, keys and signatures of all URIs in it left out."""
    return _URI.sub(lambda match: _stripped(match[0]), text) if "://" in text else text


def _stripped(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and scheme.lower() not in _NOT_SECRET:
        keeps_user = scheme.lower() not in (*_HTTP, *_OF_KEYS, "gs", "gcs")
        authority = f"{user.partition(':')[0]}@{host}" if keeps_user else host
    before, mark, query = f"{authority}{slash}{path}".partition("?")
    if mark:
        parts = query.split("&")
        names = [part.partition("=")[0] for part in parts]
        signed = "sig" in [name.lower() for name in names]
        kept = [part for part, name in zip(parts, names, strict=True) if not _matches(name, signed)]
        query = "&".join(kept)
    return f"{scheme}://{before}{'?' if query else ''}{query}"


def _user(uri: str) -> tuple[str, str, str]:
    """(scheme, user, password) of a URI; empty where there is none."""
    scheme, _, rest = uri.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    name, _, password = user.partition(":")
    if not at or scheme.lower() in _NOT_SECRET:
        return scheme.lower(), "", ""
    return scheme.lower(), unquote(name), unquote(password)


def _query(uri: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(uri).query, keep_blank_values=True)
    except ValueError:  # not a URI that can be split
        return []


def _is_secret(name: str, uri: str) -> bool:
    return _matches(name, "sig" in [each.lower() for each, _ in _query(uri)])


def _matches(name: str, beside_sig: bool) -> bool:
    return bool(_SECRET.fullmatch(name) or (beside_sig and _BESIDE_SIG.fullmatch(name)))
