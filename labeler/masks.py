"""The former place of ``labeler.geometry.masks``, kept for scripts that import from it."""

from labeler.geometry.masks import *  # noqa: F403
