"""The id of an instance: which image, which labeling pass, and which index in that image's record.

Ids are computed when a record is read and never stored in it. They stay the same when other passes are added, and when
classes are removed or renamed. Two images with the same bytes have the same digest, so whatever names an instance
across images names the image's id too. Labeling an image again can put another instance at the same index: who follows
an id after that also compares class and mask, see ``labeler.decisions``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labeler.sizes import shown

_TEXT = re.compile(r"([0-9a-f]{1,128})-(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class InstanceId:
    """One instance of one image content.

    Attributes:
        digest: content digest of the image file, hexadecimal, as in its record.
        index: of the instance in the record of its pass; objects that people added follow those of pass 0.
        labeling_pass: the number of the pass.
    """

    digest: str
    index: int
    labeling_pass: int = 0

    def __str__(self) -> str:
        """``DIGEST-PASS-INDEX``, as files and pages hold it."""
        return f"{self.digest}-{self.labeling_pass}-{self.index}"

    @classmethod
    def from_text(cls, text: object) -> InstanceId:
        """The inverse of ``str``.

        Raises:
            ValueError: ``text`` is not the text of an id.
        """
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"{shown(text)} is not an instance id (DIGEST-PASS-INDEX)")
        return cls(found[1], int(found[3]), int(found[2]))
