"""The classes of a detector that was trained on a fixed list: which of them a prompt means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labeler.errors import UsageError
from ontologies.synonyms import same_words, spelling_of

SHOWN = 8  # names in a message


@dataclass(frozen=True)
class KnownClasses:
    """Names of classes, by the id that the model gives them.

    A prompt means a class if both are written alike, apart from case, spaces, underscores and hyphens. If there is no
    such class, the singular and the plural of the prompt count too.

    Attributes:
        names: several ids may have the same name.
        owner: who knows them, as messages say it.
    """

    names: Mapping[int, str]
    owner: str
    _ids: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def ids_of(self, prompt: str) -> tuple[int, ...]:
        """The ids of the class that ``prompt`` means.

        Raises:
            UsageError: no class has that name; the message lists similar names.
        """
        if prompt not in self._ids:
            self._ids[prompt] = self._found(prompt)
        if not self._ids[prompt]:
            raise UsageError(self._refusal(prompt))
        return self._ids[prompt]

    def columns(self, prompts: Sequence[str]) -> dict[int, list[int]]:
        """For each class id that ``prompts`` mean, their indices. For errors see ``ids_of``."""
        found: dict[int, list[int]] = {}
        for column, prompt in enumerate(prompts):
            for class_id in self.ids_of(prompt):
                found.setdefault(class_id, []).append(column)
        return found

    def _found(self, prompt: str) -> tuple[int, ...]:
        wanted = _key(prompt)
        alike = {name for name in self.names.values() if _key(name) == wanted}
        if not alike:
            # Grouping takes long for a thousand names. The first letter of a noun and of its plural are the same.
            near = {name for name in self.names.values() if _key(name)[:1] == wanted[:1]}
            alike = set(same_words([prompt], near)[prompt]) if near else set()
        return tuple(class_id for class_id, name in self.names.items() if name in alike)

    def _refusal(self, prompt: str) -> str:
        names = list(dict.fromkeys(self.names.values()))
        spellings = {_key(name): name for name in names}
        close = [spellings[key] for key in difflib.get_close_matches(_key(prompt), spellings, n=3, cutoff=0.6)]
        parts = [key for key in spellings if set(key.split()) & set(_key(prompt).split())]
        similar = list(dict.fromkeys([*close, *(spellings[key] for key in parts)]))[:3]
        meant = f"; did you mean {' or '.join(map(repr, similar))}?" if similar else "."
        more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
        return (
            f"prompt {prompt!r} is not a class of {self.owner}, which finds only those it was trained on{meant} "
            f"Its classes: {', '.join(names[:SHOWN])}{more}"
        )


def _key(name: str) -> str:
    return " ".join(spelling_of(name).casefold().replace("-", " ").split())
