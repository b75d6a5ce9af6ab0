"""Run calls in parallel and get their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

REQUESTS = 16  # made to a store in parallel


def in_order(call: Callable[[Item], Result], items: Iterable[Item], ahead: int = REQUESTS) -> Iterator[Result]:
    """Like ``map``, but with ``ahead`` calls running in parallel; holds only a few finished results at a time."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
