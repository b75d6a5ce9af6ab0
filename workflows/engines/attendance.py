"""How many workers of a run are there: when it may begin, and what the user is told."""

from __future__ import annotations

import time

from labeler.errors import RunError
from workflows.engines.ray_cluster import Say, nodes_alive
from workflows.engines.resources import Pool, fitting

CHECK_SECONDS = 5.0  # how often nodes are counted
LOST_SECONDS = 60.0  # how long none may have room for one of a fixed number of workers
LINE_SECONDS = 60.0  # how often the user is told that a run waits for workers


class Attendance:
    """Watches the number of workers.

    Attributes:
        may_begin: whether shards may be handed out; stays true once it is.
    """

    def __init__(self, pool: Pool, say: Say) -> None:
        self._pool, self._say = pool, say
        self.may_begin = pool.least is None
        self._counted = self._room_at = time.monotonic()
        self._line_at = self._counted
        self._told, self._room = 0, pool.workers
        if pool.least is not None and (room := fitting(nodes_alive(), pool)) < pool.least:
            say(f"the cluster has room for {room} of at least {pool.least} workers; waiting for it to grow")

    def note(self, ready: int) -> None:
        """Take note that ``ready`` workers are there.

        Raises:
            RunError: no node has had room for a worker for ``LOST_SECONDS``, and the cluster does not grow.
        """
        now, pool = time.monotonic(), self._pool
        if pool.least is not None:
            self.may_begin |= ready >= pool.least
            self._tell(ready, pool.least, now)
        elif ready < self._told or now - self._counted >= CHECK_SECONDS:
            self._counted = now
            self._check_room(now)
        self._told = ready

    def _tell(self, ready: int, least: int, now: float) -> None:
        """Say that workers have come, or that fewer than ``least`` are there, again every minute."""
        if ready >= least:
            if ready != self._told:
                self._say(f"{ready} of up to {self._pool.workers} workers are there")
            self._line_at = now
        elif ready < self._told or now - self._line_at >= LINE_SECONDS:
            doing = "; these go on" if ready and self.may_begin else ""
            self._say(f"{ready} of at least {least} workers are there; waiting for room on the cluster{doing}")
            self._line_at = now

    def _check_room(self, now: float) -> None:
        room = min(fitting(nodes_alive(), self._pool), self._pool.workers)
        if room:
            self._room_at = now
        elif now - self._room_at > LOST_SECONDS:
            raise RunError(f"no node has room any more for one of {self._pool}; re-run the same command to resume")
        if 0 < room < self._room:
            self._say(f"workers were lost; continuing with {self._pool.of(room)}")
        self._room = room or self._room
