"""Retry transient failures, such as an unreachable store or a stale handle of a network file system."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Result = TypeVar("Result")

WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds between tries, each varied by up to half
PATIENCE = 10.0  # no retry after this many seconds, since the store's own library may have retried already

_PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EINTR", "EIO"),
        *("ENETDOWN", "ENETRESET", "ENETUNREACH", "EPIPE", "EREMOTEIO", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)
# Each store's library has its own exceptions for a broken connection; only their names are alike.
_PASSING_NAMES = re.compile("Connect|Timeout|Transport|NetworkE|Incomplete|Payload|Chunked|ServiceRe(quest|sponse)E")
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def retrying(call: Callable[[], Result], waits: Sequence[float] | None = None) -> Result:
    """The result of ``call()``, retried after each of ``waits`` (default ``WAITS``) while its failure is transient."""
    started = time.monotonic()
    for wait in WAITS if waits is None else waits:
        try:
            return call()
        except Exception as error:
            if not may_pass(error) or time.monotonic() - started > PATIENCE:
                raise
        time.sleep(wait * random.uniform(0.5, 1.5))  # so that many readers do not retry at the same moment
    return call()


def may_pass(error: BaseException) -> bool:
    """Whether a retry may succeed: not if a file is missing or access is denied."""
    if isinstance(error, _LASTING):  # fsspec raises FileNotFoundError for a web server that it cannot reach
        return error.__cause__ is not None and may_pass(error.__cause__)
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    for status in filter(None, map(_http_status, chain)):
        return status >= 500 or status in (408, 425, 429)
    names = [base.__name__ for link in chain for base in type(link).__mro__]
    if any("Offline" in name for name in names):
        return False
    return any(map(_PASSING_NAMES.search, names)) or any(
        isinstance(link, OSError) and link.errno in _PASSING_ERRNOS for link in chain
    )


def _http_status(error: BaseException) -> int:
    """The HTTP status in the exception of an HTTP library; 0 if there is none."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        holders = ((response, "status_code"), (error, "status"), (error, "status_code"), (error, "code"))
        status = next((getattr(holder, name) for holder, name in holders if hasattr(holder, name)), 0)
    return status if isinstance(status, int) and 100 <= status < 600 else 0
