"""Judge shards on all cores, in processes that do nothing else."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import pyarrow as pa

from labeler.decisions import Decision
from workflows.dataset.judging import Rules, judge_shard
from workflows.run.shard_records import ShardRecords

WORTH_IT = 256  # images; with fewer, starting processes takes longer than judging
_SERVE = "import sys; sys.path[:] = {path!r}; from workflows.dataset.judging_processes import serve; serve()"
Result: TypeAlias = tuple[pa.Table, list[list[bytes]]]
Judge: TypeAlias = Callable[[ShardRecords, Mapping[str, Sequence[Decision]]], Result]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def judges(rules: Rules, images: int) -> Iterator[Judge]:
    """``judge_shard`` by ``rules``, to be called from several threads at once.

    Args:
        images: how many there are to judge. If they are few, or there is one core, no process is started.
    """

    def here(source: ShardRecords, decisions: Mapping[str, Sequence[Decision]]) -> Result:
        return judge_shard(source, rules, decisions)

    count = cores() if images >= WORTH_IT and sys.executable else 1
    if count == 1:
        yield here
        return
    processes = [_Process(rules) for _ in range(count)]
    idle: queue.LifoQueue[_Process] = queue.LifoQueue()  # one that runs already is taken first
    for process in processes:
        idle.put(process)

    def elsewhere(source: ShardRecords, decisions: Mapping[str, Sequence[Decision]]) -> Result:
        process = idle.get()
        try:
            answer = process.ask(source, decisions)
        except (OSError, EOFError, pickle.UnpicklingError):  # it was killed, as for want of memory
            if process.is_closed:
                raise
            return here(source, decisions)
        finally:
            idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        return answer

    try:
        yield elsewhere
    finally:
        for process in processes:
            process.close()


class _Process:
    """A process that judges one shard after the other; it starts with the first one.

    It ends when this process does, since its input ends then.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._process: subprocess.Popen[bytes] | None = None
        self.is_closed = False

    def ask(self, source: ShardRecords, decisions: Mapping[str, Sequence[Decision]]) -> Result | Exception:
        if self._process is None:
            # Not by ``multiprocessing``, which runs the user's own script once more in every process.
            command = [sys.executable, "-c", _SERVE.format(path=sys.path)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._send(self._rules)
        self._send((source, decisions))
        assert self._process.stdout is not None
        answer: Result | Exception = pickle.load(self._process.stdout)
        return answer

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
    rules = pickle.load(asked)
    while True:
        try:
            source, decisions = pickle.load(asked)
        except EOFError:
            return
        answer: Result | Exception
        try:
            answer = judge_shard(source, rules, decisions)
        except Exception as error:
            answer = error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # the process that asked was killed
            return
