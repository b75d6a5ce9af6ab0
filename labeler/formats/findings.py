"""What a reader could not take as it stands: counted by kind, with the first few names."""

from __future__ import annotations

NAMES_SHOWN = 5
BOX_AS_BOX = "without a mask: counted by the box, and left out of measures of masks"
BOX_AS_MASK = "without a mask: the box counts as the mask"


class Findings:
    """Collects what was read in another way than written, or left out, to be told in one line per kind."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._names: dict[tuple[str, str], list[str]] = {}

    def add(self, noun: str, what: str, name: object) -> None:
        """Count one case.

        Args:
            noun: what it is, in the singular: ``annotation``.
            what: what was done about it, which has to fit after one and after many: ``left out: …``.
            name: which one it is: an id, a name, or file and line.
        """
        kind = noun, what
        self._counts[kind] = self._counts.get(kind, 0) + 1
        names = self._names.setdefault(kind, [])
        if len(names) < NAMES_SHOWN:
            names.append(str(name))

    def lines(self) -> tuple[str, ...]:
        """One line per kind, in the order in which the kinds came up."""
        return tuple(
            f"{count} {noun if count == 1 else _plural(noun)} {what} ({self._shown(noun, what)})"
            for (noun, what), count in self._counts.items()
        )

    def _shown(self, noun: str, what: str) -> str:
        names = self._names[noun, what]
        return ", ".join(names) + (", …" if self._counts[noun, what] > len(names) else "")


def _plural(noun: str) -> str:
    if noun.endswith(("x", "s")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
