"""Opens the page of ``labeler review`` in a browser, without its token in the browser's command line.

Every user of the machine can list the command lines of all processes. So the browser gets a file that only this user
can read, and the file leads to the page.
"""

from __future__ import annotations

import html
import os
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>labeler review</title>
<meta http-equiv="refresh" content="0; url={url}"></head>
<body><a href="{url}">labeler review</a></body></html>
"""


@contextmanager
def shown_in_browser(url: str) -> Iterator[None]:
    """Open ``url`` in the user's browser; the file that leads there is deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="labeler-review-") as folder:  # of mode 0700
        path = Path(folder, "review.html")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(_PAGE.format(url=html.escape(url)))
        threading.Thread(target=webbrowser.open, args=(path.as_uri(),), daemon=True).start()
        yield
