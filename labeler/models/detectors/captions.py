"""Captions for Grounding DINO: prompts packed by token budget, with the token span of each prompt.

Captions are built from token ids, not from text. So the span of each prompt is known, and no label has to be decoded
from tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labeler.errors import UsageError

# [CLS] [SEP] . ? in BERT's vocabulary. In Grounding DINO's text encoder, a token attends only to those between the same
# two separators.
SEPARATOR_IDS = frozenset({101, 102, 1012, 1029})
_CLS, _SEP, _DOT = 101, 102, 1012


@dataclass(frozen=True)
class Caption:
    """One caption, such as ``[CLS] red car . dog . [SEP]``.

    Attributes:
        token_ids: the whole caption.
        prompt_indices: the indices of its prompts in the list that was packed, in order.
        spans: for each of these prompts, start and stop of its tokens in ``token_ids``.
    """

    token_ids: tuple[int, ...]
    prompt_indices: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def pack_prompts(
    prompts: Sequence[str], tokenizer: Any, token_budget: int, prompts_per_caption: int | None = None
) -> list[Caption]:
    """Pack ``prompts``, in order, into as few captions as ``token_budget`` allows.

    Args:
        tokenizer: a BERT tokenizer of ``transformers``, with BERT's ids for the separators.
        token_budget: maximum tokens per caption, including [CLS] and [SEP].
        prompts_per_caption: maximum prompts per caption; None for no limit.

    Raises:
        UsageError: a prompt contains a separator, has only unknown tokens, or does not fit into a caption.
    """
    captions: list[Caption] = []
    ids: list[int] = [_CLS]
    members: list[tuple[int, tuple[int, int]]] = []

    def close() -> None:
        nonlocal ids, members
        indices, spans = zip(*members, strict=True)
        captions.append(Caption((*ids, _SEP), indices, spans))
        ids, members = [_CLS], []

    for index, tokens in enumerate(_tokenize(prompts, tokenizer)):
        if len(tokens) + 3 > token_budget:
            raise UsageError(
                f"prompt {prompts[index]!r} takes {len(tokens)} tokens; the detector reads {token_budget - 3}"
            )
        if members and (len(ids) + len(tokens) + 2 > token_budget or len(members) == prompts_per_caption):
            close()
        members.append((index, (len(ids), len(ids) + len(tokens))))
        ids += [*tokens, _DOT]
    if members:
        close()
    return captions


def _tokenize(prompts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    if not prompts:
        return []
    rows: list[list[int]] = tokenizer([prompt.lower() for prompt in prompts], add_special_tokens=False).input_ids
    for prompt, row in zip(prompts, rows, strict=True):
        if SEPARATOR_IDS.intersection(row):
            raise UsageError(f"prompt {prompt!r} contains '.' or '?', which separate prompts: remove them")
        if all(token == tokenizer.unk_token_id for token in row):
            raise UsageError(f"prompt {prompt!r} has no word that the detector knows: use other words")
    return rows
