"""Tell new failures from failures that an earlier run has reported, and limit how many a run may have.

    OUT/run/reported.json    {"failed": [image ids], "pending": [shard indices], "retry": false}

``pending`` lists the shards that were started since a run last completed. Failures recorded in them are unreported,
even if the run that recorded them was killed. ``failed`` lists reported failures that are not in the records, because
they happened while the dataset was written. ``retry`` means that the last run had too many failures, so the next run
tries its failed images again. If the file is missing, as in a run folder of an earlier version, no failure counts as
reported.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from labeler.errors import FormatError, RunError
from labeler.files.storage import remove, write_bytes
from labeler.migrations import read_object
from workflows.run.exit_codes import TOO_MANY_FAILURES
from workflows.run.folder import RunFolder
from workflows.run.waiting import WaitingShards
from workflows.settings.limits import FailureLimit

logger = logging.getLogger(__name__)

Failure = tuple[str, str]  # image id, error
Item = TypeVar("Item")
LAST_SHARD = 2**31 - 1  # the manifest stores shard indices in 32 bits


class TooManyFailuresError(RunError):
    """More images failed than ``--max-failures`` allows."""

    exit_code = TOO_MANY_FAILURES


class RunLimit:
    """The limit for one run.

    Args:
        text: as for ``FailureLimit.parse``; None means no limit.
        images: the number of images started since a run last completed.
        uncounted: the number of failures to ignore, which come first in lists of failures.
    """

    def __init__(self, text: str | None, images: int, uncounted: int) -> None:
        self._limit = None if text is None else FailureLimit.parse(text)
        self._images, self._uncounted = images, uncounted

    def is_exceeded(self, failures: int) -> bool:
        return self._limit is not None and self._limit.is_exceeded(failures - self._uncounted, self._images)

    def error(self, where: str, failed: Sequence[Failure]) -> TooManyFailuresError:
        """The error to raise if the images ``failed`` of the input ``where`` are too many."""
        assert self._limit is not None
        image_id, cause = failed[self._uncounted]
        return TooManyFailuresError(
            f"{where}: {len(failed) - self._uncounted} of {self._images} images failed, more than --max-failures "
            f"{self._limit.text} allows ({image_id}: {cause}); fix that and re-run the same command, which tries them "
            "again (the dataset is as it was)"
        )


class FailureLedger:
    """``run/reported.json``. The run folder must be locked by whoever writes it."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._path = run.path / "reported.json"
        self.failed: set[str] = set()
        self.retry = False
        # Pending only because the file is missing; not counted for the limit.
        self.assumed: frozenset[int] = frozenset()
        self._written: dict[str, object] = {}
        try:
            content = read_object(self._path)
            self.pending = set(_each(content, "pending", int))
            if not all(0 <= shard <= LAST_SHARD for shard in self.pending):
                raise ValueError("a shard index is out of range")
            self.failed, self.retry = set(_each(content, "failed", str)), content["retry"] is True
            self._written = self._content()
            return
        except FileNotFoundError:
            pass
        except (FormatError, ValueError, KeyError):
            logger.warning("%s is damaged; failures may be reported once more", self._path)
        self.pending = run.labeled_shards()
        self.assumed = frozenset(self.pending)

    def clear(self) -> None:
        """Forget everything, since the records were deleted."""
        self.failed, self.pending, self.retry, self._written = set(), set(), False, {}
        remove(self._path)

    def to_retry(self) -> list[str]:
        """The images that failed in a run that had too many failures."""
        return [image_id for image_id, _ in self._run.failed_in(self.pending)] if self.retry else []

    def begin(self, todo: WaitingShards) -> None:
        """Note that the shards ``todo`` are started, before any of them is labeled."""
        self.pending.update(todo.index.tolist())
        if self.failed:
            self.failed.difference_update(image_id for shard in todo for image_id in shard.image_ids)
        self.retry = False
        self._write()

    def unreported(self) -> list[Failure]:
        """Failures that earlier runs recorded but did not report."""
        return [failure for failure in self._run.failed_in(self.pending) if failure[0] not in self.failed]

    def retry_next_time(self) -> None:
        """Make the next run label the failed images of the pending shards again."""
        self.retry = True
        self._write()

    def close(self, failed: Iterable[str]) -> None:
        """Mark all failures as reported. ``failed`` are those that are not in the records."""
        self.failed, self.pending, self.retry = set(failed), set(), False
        self._write()

    def report(self, failed: Iterable[str]) -> None:
        """Mark the failures ``failed`` as reported, in a run that does not label."""
        self.failed = set(failed)
        self._write()

    def _content(self) -> dict[str, object]:
        return {"failed": sorted(self.failed), "pending": sorted(self.pending), "retry": self.retry}

    def _write(self) -> None:
        if (content := self._content()) != self._written:
            write_bytes(self._path, json.dumps(content, ensure_ascii=False).encode())
            self._written = content


def _each(content: dict[str, Any], name: str, kind: type[Item]) -> list[Item]:
    """The list under ``name``.

    Raises:
        KeyError, ValueError: there is none, or an item has another type.
    """
    items = content[name]
    if not isinstance(items, list) or not all(type(item) is kind for item in items):
        raise ValueError(f"{name} is not a list of {kind.__name__}")
    return items
