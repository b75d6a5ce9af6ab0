"""Import Ultralytics so that it installs nothing while it runs, and does not report its use to its makers."""

from __future__ import annotations

import os
from typing import Any


def quiet_ultralytics() -> Any:
    """The package ``ultralytics``.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import ultralytics
    from ultralytics.utils import SETTINGS, checks

    checks.AUTOINSTALL = False  # if something else has imported it before
    dict.__setitem__(SETTINGS, "sync", False)  # for this process; the user's settings file stays as it is
    return ultralytics
