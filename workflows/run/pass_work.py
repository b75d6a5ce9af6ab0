"""What there is to do in the labeling passes of a run, and what to tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ontologies import Ontology
from ontologies.ontology import DISTRACTOR
from workflows.settings.passes import Pass, named, prompt_key, prompt_keys
from workflows.settings.run_settings import RunSettings


def passes_now(settings: RunSettings) -> list[int]:
    """The passes that the named labeler can run, and whose prompts the classes still have."""
    return [
        number
        for number, made in enumerate(settings.passes)
        if made.is_active(settings.ontology) and not made.differs_from(settings.asked)
    ]


def asking(settings: RunSettings, number: int, images: int) -> str:
    """What a pass asks of how many ``images``; empty if it is the only one."""
    if len(settings.passes) == 1:
        return ""
    prompts = _prompts(settings.passes[number], settings.ontology)
    new = "new " if number == len(settings.passes) - 1 else ""
    return f"asking {_count(len(prompts), f'{new}prompt')} ({named(prompts)}) of {_count(images, 'image')}"


def lacking(settings: RunSettings, images: Mapping[int, int]) -> Iterator[str]:
    """What labels are incomplete.

    Args:
        images: how many images were not asked in a pass, by its number.
    """
    for number, count in images.items():
        made = settings.passes[number]
        prompts = named(_prompts(made, settings.ontology))
        way_out = (
            f"name its labeler, {made.labeler}, to ask them" if made.differs_from(settings.asked) else "label again"
        )
        yield f"{_count(count, 'labeled image')} lack{'s' if count == 1 else ''} the labels of {prompts}: {way_out}"


def _prompts(made: Pass, ontology: Ontology | None) -> list[str]:
    """The prompts of a pass that the classes still have."""
    wanted, asked = prompt_keys(ontology), made.ontology
    pairs = asked.prompts if asked else ()
    return [prompt for prompt, class_id in pairs if class_id != DISTRACTOR and prompt_key(prompt) in wanted]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
