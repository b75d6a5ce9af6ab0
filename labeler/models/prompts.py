"""Captions for grounding detectors: prompts packed by token budget, with the token positions of each prompt.

The caption is put together from token ids, never from text, so each prompt's span is known and no label has to be
decoded back from tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labeler.errors import UsageError

# [CLS] [SEP] . ? in BERT's vocabulary: Grounding DINO's text encoder attends only between two of these.
SEPARATOR_IDS = frozenset({101, 102, 1012, 1029})
_CLS, _SEP, _DOT = 101, 102, 1012


@dataclass(frozen=True)
class Caption:
    """One caption, ``[CLS] a b . c . [SEP]``.

    Attributes:
        token_ids: the whole caption.
        prompt_indices: which prompts of the packed list it holds, in order.
        spans: for each of these, the start and stop of its tokens in ``token_ids``.
    """

    token_ids: tuple[int, ...]
    prompt_indices: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def pack_prompts(
    prompts: Sequence[str], tokenizer: Any, token_budget: int, prompts_per_caption: int | None = None
) -> list[Caption]:
    """Pack ``prompts``, in order, into as few captions as ``token_budget`` tokens allow.

    Args:
        tokenizer: a BERT tokenizer of ``transformers``, with BERT's ids for the separators.
        token_budget: tokens the model reads, [CLS] and [SEP] included.
        prompts_per_caption: at most so many prompts in a caption; 1 is one forward a prompt.

    Raises:
        UsageError: a prompt has no token the model knows, holds a separator, or is longer than a caption.
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
            raise UsageError(f"prompt {prompt!r} holds '.' or '?', which separate prompts: leave them out")
        if all(token == tokenizer.unk_token_id for token in row):
            raise UsageError(f"prompt {prompt!r} has no word that the detector's tokenizer knows: use other words")
    return rows
