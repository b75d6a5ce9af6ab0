"""Run calls on all cores, in processes that do nothing else."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Spread(Protocol):
    """Runs calls elsewhere, several at once."""

    def __call__(
        self, call: Callable[Arguments, Result], is_worth_it: bool, /
    ) -> AbstractContextManager[tuple[Callable[Arguments, Result], int]]:
        """``call``, to be called from several threads, and how many calls run at once.

        Args:
            call: a function of a module, or a ``partial`` of one; it and what it takes and gives can be pickled.
            is_worth_it: whether calls take longer than starting processes. If not, ``call`` runs in this process.
        """
        ...


_SERVE = "import sys; sys.path[:] = {path!r}; from labeler.files.processes import serve; serve()"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_all_cores(
    call: Callable[Arguments, Result], is_worth_it: bool
) -> Iterator[tuple[Callable[Arguments, Result], int]]:
    """``Spread`` over a process for each core."""
    count = cores() if is_worth_it and sys.executable else 1
    if count == 1:
        yield call, 1
        return
    processes = [_Process(call) for _ in range(count)]
    idle: queue.LifoQueue[_Process] = queue.LifoQueue()  # one that runs already is taken first
    for process in processes:
        idle.put(process)

    def elsewhere(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        process = idle.get()
        try:
            answer = process.ask(args, kwargs)
        except (OSError, EOFError, pickle.UnpicklingError):  # it was killed, as for want of memory
            if process.is_closed:
                raise
            return call(*args, **kwargs)
        finally:
            idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        result: Result = answer
        return result

    try:
        yield elsewhere, count
    finally:
        for process in processes:
            process.close()


class _Process:
    """A process that makes one call after the other; it starts with the first one.

    It ends when this process does, since its input ends then.
    """

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call
        self._process: subprocess.Popen[bytes] | None = None
        self.is_closed = False

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of the call, or the exception that it raised."""
        if self._process is None:
            # Not by ``multiprocessing``, which runs the user's own script once more in every process.
            command = [sys.executable, "-c", _SERVE.format(path=sys.path)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._send(self._call)
        self._send((args, kwargs))
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)

    def _send(self, what: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(what, self._process.stdin)
        self._process.stdin.flush()

    def close(self) -> None:
        self.is_closed = True
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def serve() -> None:
    """Answer what the process that started this one asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get among the answers
    call = pickle.load(asked)
    while True:
        try:
            args, kwargs = pickle.load(asked)
        except EOFError:
            return
        answer: object
        try:
            answer = call(*args, **kwargs)
        except Exception as error:
            answer = error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # the process that asked was killed
            return
