"""The lock of an output folder: one run at a time.

On this machine, the operating system releases the lock when its process ends in any way. ``owner.json`` beside the lock
names the owner, and remains if the process was killed. In a store, ``owner.json`` is the lock itself: it is created
only if it does not exist, and a thread renews it. Another run may take it over when it has not been renewed for
``STALE_SECONDS``, or at once if its process is known to have died on the same host.
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
from labeler.files.storage import is_link, remove, storage_of, write_bytes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

BEAT_SECONDS = 30.0
STALE_SECONDS = 180.0
SETTLE_SECONDS = 2.0  # in case others take over a dead run's lock at the same moment


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        since: UTC, ISO 8601.
        beat: when the lock was last renewed, in seconds since 1970.
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

    def is_dead(self) -> bool:
        return self.is_gone_from_here() or time.time() - self.beat > STALE_SECONDS

    def is_gone_from_here(self) -> bool:
        """Whether it was a process of this host that no longer exists."""
        if self.host != socket.gethostname() or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # OverflowError: not a possible process id
            return False
        return False


def read_owner(path: AnyPath) -> Owner | None:
    """The owner in ``owner.json``; None if the file is missing, an owner that is long dead if it is damaged."""
    try:
        content = load_json(path)
        host, since, token = (str(content[name]) for name in ("host", "since", "token"))
        return Owner(host, int(content["pid"]), since, token, float(content["beat"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OverflowError):
        return Owner("an unknown host", 0, "an unknown time", "", 0.0)


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
        if not holder.is_dead():
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


def _in_use(folder: AnyPath, owner: Owner | None) -> RunError:
    hint = "" if storage_of(folder).has_locks else f" (the lock of a dead run expires within {STALE_SECONDS:.0f} s)"
    return RunError(f"{folder.parent} is in use by another run{_named(owner)}; wait for it{hint} or choose another -o")


def _named(owner: Owner | None) -> str:
    return f" ({owner})" if owner else ""


def _say_taken_over(folder: AnyPath, owner: Owner) -> None:
    logger.warning("%s: the previous run (%s) ended unexpectedly; resuming from where it stopped", folder.parent, owner)
