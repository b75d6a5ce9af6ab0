"""``run.json``, the file of a run folder's settings; nothing else reads or writes it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from labeler.errors import FormatError, RunError
from labeler.files.storage import info, write_bytes
from labeler.migrations import read_json
from workflows.settings.run_settings import RunSettings, encoded

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)


class RunJson:
    """The file ``run/run.json`` of the run folder ``output``."""

    def __init__(self, output: AnyPath) -> None:
        self.output = output
        self.path = output / "run" / "run.json"

    def read(self, replacing: Collection[str] = ()) -> RunSettings:
        """The settings of the folder.

        Args:
            replacing: parts that the caller replaces, of ``ontology`` and ``export``. Damaged ones have their default.

        Raises:
            RunError: this is no run folder, or the file is damaged or was written by a newer labeler.
        """
        return self._whole(self._parsed(), replacing)

    def read_before_labeling(self, restart: bool, reset: bool) -> RunSettings | None:
        """The settings of a folder that is about to be labeled; None if there are none yet.

        Args:
            restart: all is labeled again, so the file need not be readable; a warning says what is lost with it.
            reset: the dataset settings are about to be replaced, so damaged ones count as the defaults.

        Raises:
            RunError: as ``read``.
        """
        if info(self.path) is None:
            return None
        try:
            settings = self._parsed()
        except RunError:
            if not restart:
                raise
            logger.warning("%s cannot be read; the dataset settings that it held are lost", self.path)
            return None
        return self._whole(settings, replacing=("ontology", "export") if reset else ("ontology",))

    def write(self, settings: RunSettings) -> None:
        write_bytes(self.path, encoded(settings.to_json()))

    def _parsed(self) -> RunSettings:
        try:
            return RunSettings.from_json(read_json("run.json", self.path))
        except FileNotFoundError:
            raise RunError(
                f"{self.output} holds no run (there is no {self.path}); label images into it first"
            ) from None
        except (FormatError, ValueError) as error:
            raise self._damaged(str(error).removeprefix(f"{self.path}: ")) from None

    def _whole(self, settings: RunSettings, replacing: Collection[str]) -> RunSettings:
        """``settings``, if nothing in them is damaged but what is in ``replacing``."""
        faults = {part: fault for part, fault in settings.faults.items() if part not in replacing}
        if fault := faults.get("ontology"):
            raise self._damaged(f"ontology: {fault}")
        if fault := faults.get("export"):
            raise RunError(
                f"{self.path}: the dataset settings are damaged ({fault}); reset them with "
                f"`labeler export {self.output} --defaults`"
            )
        return settings

    def _damaged(self, cause: str) -> RunError:
        return RunError(f"{self.path} is damaged ({cause}); put back a copy of it, or label all again with --restart")
