"""Work in a forked process that a kill or an error hits at a chosen change of the file system."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labeler.errors import LabelerError

CHANGES = {"os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}
"""Audit events of Python that change the file system; so does opening a file to write."""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended.

    Attributes:
        code: its exit code; negative is the signal that killed it.
        said: all that it wrote to stdout and stderr.
        hung: it did not end in time.
        changes: how often it changed the file system; 0 if it was killed.
        was_hit: it came as far as the fault.
    """

    code: int
    said: str
    hung: bool = False
    changes: int = 0
    was_hit: bool = False


def in_child(
    work: Callable[[], object], fault_at: int = 0, fault: Callable[[], object] | None = None, seconds: float = 120
) -> Outcome:
    """Run ``work`` in a forked process.

    Args:
        fault_at: the number of the change of the file system that ``fault`` comes before, from 1; 0 for none.
        fault: raises an ``OSError`` in place of the change; None kills the process.
        seconds: after which the process is killed as hung.
    """
    read, write = os.pipe()
    count_read, count_write = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os._exit(_work(work, fault_at, fault, count_write))
    os.close(write)
    os.close(count_write)
    said, hung = _read_all(read, child, seconds)
    _, status = os.waitpid(child, 0)
    changes = os.read(count_read, 20)
    os.close(read)
    os.close(count_read)
    code, count = os.waitstatus_to_exitcode(status), int(changes or 0)
    return Outcome(code, said, hung, count, was_hit=code == -signal.SIGKILL or 0 < fault_at <= count)


def _work(work: Callable[[], object], fault_at: int, fault: Callable[[], object] | None, count_to: int) -> int:
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        is_open = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or is_open:
            count += 1
            if count == fault_at:
                if fault is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                else:
                    fault()

    sys.addaudithook(hook)
    code = 1
    try:
        work()
        code = 0
    except (LabelerError, OSError) as error:  # one line, as the command line does
        print(f"labeler: {error}", file=sys.stderr)
        code = 2
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(count_to, str(count).encode())
    return code


def _read_all(pipe: int, child: int, seconds: float) -> tuple[str, bool]:
    data, deadline = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            os.kill(child, signal.SIGKILL)
            return data.decode(errors="replace"), True
        block = os.read(pipe, 2**16)
        if not block:
            return data.decode(errors="replace"), False
        data += block
