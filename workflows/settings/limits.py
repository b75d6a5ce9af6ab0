"""How many images may fail before a run stops."""

from __future__ import annotations

from dataclasses import dataclass

from labeler.errors import UsageError


@dataclass(frozen=True)
class FailureLimit:
    """How many images may fail: ``share`` percent of the images taken up if that is given, else ``count``."""

    text: str
    count: int = 0
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """``text`` is a number of images, such as ``20``, or a percentage, such as ``5%``.

        Raises:
            UsageError: it is neither.
        """
        number = text.strip()
        try:
            if number.endswith("%"):
                share = float(number[:-1])
                if 0 <= share <= 100:
                    return cls(text, share=share)
            elif number.isascii() and number.isdigit():
                return cls(text, count=int(number))
        except ValueError:
            pass
        raise UsageError(f"--max-failures {text}: give a number of images, such as 20, or a percentage, such as 5%")

    def is_exceeded(self, failures: int, images: int) -> bool:
        """Whether ``failures`` of ``images`` are too many."""
        return failures > self.count if self.share is None else failures * 100 > self.share * images
