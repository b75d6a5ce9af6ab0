"""``labeler models``: the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labeler.models.config import PRESETS
from labeler.models.identity import is_on_this_machine
from workflows.commands.options import Command, Outcome

if TYPE_CHECKING:
    from workflows.commands.terminal import Terminal


@dataclass(frozen=True)
class ModelsOptions:
    pass


def run_models(options: ModelsOptions, console: Terminal) -> Outcome:
    for name, preset in PRESETS.items():
        console.print(f"[bold]{name}[/bold]: {preset.about}", highlight=False)
        for role, source in (("detector", preset.detector), ("segmenter", preset.segmenter)):
            here = "on this machine" if is_on_this_machine(source) else "not downloaded yet"
            console.print(f"  {role:9}  {source}  ({here})", highlight=False, markup=False)
    return Outcome(line="Any other checkpoint of these families: --detector and --segmenter take a hub id or a folder.")


COMMAND = Command(
    ModelsOptions,
    run_models,
    examples=("labeler models", 'labeler label photos -o dataset --classes "dog, cat" --model fast'),
)
