"""How images are divided into splits: the settings, without what carries them out (see ``labeler.formats.splits``)."""

from __future__ import annotations

from dataclasses import dataclass

from labeler.errors import UsageError

SPLIT_BY = "content|folder|regex:PATTERN"
REGEX = "regex:"
TOLERANCE = 1e-9  # of a sum of shares


@dataclass(frozen=True)
class SplitRule:
    """What decides the split of a group of images that has none yet.

    Attributes:
        split_by: ``content``, ``folder`` or ``regex:PATTERN``; says which images are one group.
        val_share, test_share: of the groups, in [0, 1].
        seed: of the hash that decides.
    """

    split_by: str = "content"
    val_share: float = 0.2
    test_share: float = 0.0
    seed: int = 0

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of train, val and test."""
        train = 1 - self.val_share - self.test_share
        return (train if train > TOLERANCE else 0.0), self.val_share, self.test_share


def check_split(rule: SplitRule) -> None:
    """Check what the range of a single setting cannot tell.

    Raises:
        UsageError: the shares add up to more than 1, or ``split_by`` cannot be meant.
    """
    if rule.val_share + rule.test_share > 1 + TOLERANCE:
        raise UsageError(
            f"--val-share {rule.val_share:g} and --test-share {rule.test_share:g} add up to more than 1; lower one"
        )
    if rule.split_by in ("content", "folder"):
        return
    pattern = rule.split_by.removeprefix(REGEX)
    if not rule.split_by.startswith(REGEX) or not pattern:
        raise UsageError(f"--split-by must be content, folder or regex:PATTERN, not {rule.split_by!r}")
    if fault := _fault_of_pattern(pattern):
        raise UsageError(f"--split-by {rule.split_by}: not a regular expression of RE2 ({fault})")


def _fault_of_pattern(pattern: str) -> str:
    """Why RE2 cannot use ``pattern``; empty if it can.

    RE2 takes linear time for any pattern, also for one in the settings of a stranger's run folder. It has no
    look-around and no references to groups.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except (pa.ArrowException, UnicodeError) as error:
        return " ".join(str(error).removeprefix("Invalid regular expression:").split()) or type(error).__name__
    return ""
