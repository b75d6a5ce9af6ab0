"""The lock of an output folder: one run at a time.

On this machine, the operating system releases the lock when its process ends in any way. ``owner.json`` beside the lock
names the owner, and remains if the process was killed. In a store, ``owner.json`` is the lock itself: it is created
only if it does not exist, and a thread renews it. Another run may take it over when it has not been renewed for
``STALE_SECONDS``, or at once if its process is known to have died on the same host. Only the store's clock counts: the
clocks of two hosts may differ by minutes.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from labeler.errors import RunError
from labeler.files.documents import load_json
from labeler.files.storage import info, is_link, remove, storage_of, write_bytes
from labeler.sizes import shown

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

BEAT_SECONDS = 30.0
STALE_SECONDS = 180.0
MAX_TEXT = 100  # characters of a host name or a time; messages show them
SETTLE_SECONDS = 2.0  # in case others take over a dead run's lock at the same moment


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        since: UTC, ISO 8601.
        beat: when the lock was last renewed, in seconds since 1970 by the owner's clock; for people to read.
    """

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    beat: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def encode(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()

    def is_gone_from_here(self) -> bool:
        """Whether it was a process of this host that no longer exists."""
        if self.host != socket.gethostname() or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


UNKNOWN = Owner("an unknown host", 0, "an unknown time", "", 0.0)  # of a damaged file


def read_owner(path: AnyPath) -> Owner | None:
    """The owner in ``owner.json``; None if the file is missing, ``UNKNOWN`` if it is damaged."""
    try:
        content = load_json(path)
        host, since, token = (str(content[name])[:MAX_TEXT] for name in ("host", "since", "token"))
        return Owner(host, _process_id(content["pid"]), since, token, float(content["beat"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OverflowError):
        return UNKNOWN


def _process_id(value: object) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError(f"{shown(value)} is not a process id")
    return value


def hold(folder: AnyPath) -> AbstractContextManager[Callable[[], None]]:
    """Hold the lock in ``folder``; yields a function that raises a ``RunError`` if another run took the lock over.

    Raises:
        RunError: another run holds the lock; the message names it.
        OSError: the folder cannot be written.
    """
    return _hold_by_system(folder) if storage_of(folder).has_locks else _hold_by_note(folder)


@contextmanager
def _hold_by_system(folder: AnyPath) -> Iterator[Callable[[], None]]:
    note, lock = folder / "owner.json", folder / "lock"
    if is_link(lock):  # opening it would empty the file it points to
        raise RunError(f"{lock} is a link, which labeler never creates; delete it")
    try:
        with FileLock(str(lock), timeout=0):
            if died := read_owner(note):
                _say_taken_over(folder, died)
            write_bytes(note, Owner().encode())
            try:
                yield lambda: None
            finally:
                remove(note)
    except Timeout:
        raise _in_use(folder, read_owner(note)) from None


@contextmanager
def _hold_by_note(folder: AnyPath) -> Iterator[Callable[[], None]]:
    path = folder / "owner.json"
    owner = Owner()
    _acquire(path, owner)
    released = threading.Event()
    lost: list[Owner | None] = []

    def renew() -> None:
        while not released.wait(BEAT_SECONDS):
            try:
                holder = read_owner(path)
                if holder is None or holder.token != owner.token:
                    lost.append(holder)
                    return
                write_bytes(path, replace(owner, beat=time.time()).encode())
            except OSError as error:
                logger.debug("%s: not renewed (%s)", path, error)

    def check() -> None:
        if lost:
            raise RunError(f"{folder.parent} was taken over by another run{_named(lost[0])}; stopping")

    renewal = threading.Thread(target=renew, name="lock", daemon=True)
    renewal.start()
    try:
        yield check
    finally:
        released.set()
        renewal.join()  # otherwise its last write could create the lock again
        try:
            if (holder := read_owner(path)) is not None and holder.token == owner.token:
                remove(path)
        except OSError as error:
            logger.warning(
                "%s: the lock could not be deleted (%s); it expires in %.0f s", path, error.strerror, STALE_SECONDS
            )


def _acquire(path: AnyPath, owner: Owner) -> None:
    holder = read_owner(path)
    if holder is not None:
        if not _is_dead(path, holder):
            raise _in_use(path.parent, holder)
        _say_taken_over(path.parent, holder)
        remove(path)
    storage_of(path).create(path, owner.encode())
    if holder is not None:
        time.sleep(SETTLE_SECONDS)
    # Not the result of create: it may have been retried, and not every store has conditional writes.
    now = read_owner(path)
    if now is None or now.token != owner.token:
        raise _in_use(path.parent, now)


def _is_dead(path: AnyPath, holder: Owner) -> bool:
    if holder == UNKNOWN or holder.is_gone_from_here():
        return True
    age = _seconds_since_renewal(path)
    return age is not None and age > STALE_SECONDS


def _seconds_since_renewal(path: AnyPath) -> float | None:
    """How long ago the lock was written, by the clock of its store; None if the store tells no times.

    The store's time is that of a file written for the purpose, since not every store can be asked for it.
    """
    renewed = info(path)
    now = path.with_name(f"clock-{uuid.uuid4().hex}")
    write_bytes(now, b"\n")
    try:
        written = info(now)
    finally:
        remove(now)
    if renewed is None or written is None or not (renewed.modified and written.modified):
        return None
    return written.modified - renewed.modified


def _in_use(folder: AnyPath, owner: Owner | None) -> RunError:
    hint = "" if storage_of(folder).has_locks else f" (the lock of a dead run expires within {STALE_SECONDS:.0f} s)"
    return RunError(f"{folder.parent} is in use by another run{_named(owner)}; wait for it{hint} or choose another -o")


def _named(owner: Owner | None) -> str:
    return f" ({owner})" if owner else ""


def _say_taken_over(folder: AnyPath, owner: Owner) -> None:
    logger.warning("%s: the previous run (%s) ended unexpectedly; resuming from where it stopped", folder.parent, owner)
