"""``labeler models``: the presets, the kinds of labelers, and downloading models ahead of a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.models.config import PRESETS
from labeler.models.identity import is_on_this_machine
from labeler.models.kinds.kinds import KINDS
from labeler.models.published import PUBLISHED
from labeler.setting import setting
from workflows.commands.options import Command, Outcome

if TYPE_CHECKING:
    from labeler.models.fetching import Fetched
    from workflows.commands.terminal import Terminal

GROUP = "download"


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    fetch: str | None = setting(
        None,
        "download the models of this preset, or the model with this hub id, and nothing else",
        metavar="PRESET|ID",
        group=GROUP,
        unset="list presets and labelers",
    )
    to: str | None = setting(
        None,
        "folder to download to, for machines without a network",
        metavar="FOLDER",
        group=GROUP,
        unset="the cache of the Hugging Face hub",
    )


def run_models(options: ModelsOptions, console: Terminal) -> Outcome:
    if options.fetch is not None:
        from labeler.models.fetching import fetch

        fetched = fetch(options.fetch, None if options.to is None else Path(options.to).expanduser())
        for model in fetched:
            line = f"{model.source}: {model.size / 1e6:,.0f} MB in {model.folder}"
            console.print(line, highlight=False, markup=False)
        return Outcome(line=f"to use {'it' if len(fetched) == 1 else 'them'}: {_flags(options, fetched)}")
    if options.to is not None:
        raise UsageError("--to says where --fetch downloads to; add --fetch PRESET")
    _list(console)
    return Outcome(line="Any other checkpoint of these families: --detector and --segmenter take a hub id or a folder.")


def _list(console: Terminal) -> None:
    console.print("presets, for --model:", highlight=False)
    for name, preset in PRESETS.items():
        console.print(f"[bold]{name}[/bold]: {preset.about} (labeler {preset.labeler})", highlight=False)
        for role, source in preset.models.items():
            here = "on this machine" if is_on_this_machine(source) else "not downloaded yet"
            console.print(f"  {role:9}  {source}  ({PUBLISHED[source]}; {here})", highlight=False, markup=False)
    console.print("kinds of labelers, for --labeler:", highlight=False)
    for name, kind in KINDS.items():
        console.print(f"[bold]{name}[/bold]: {kind.about}", highlight=False)
        console.print(f"  takes {', '.join(kind.flags)}", highlight=False, markup=False)


def _flags(options: ModelsOptions, fetched: list[Fetched]) -> str:
    """What to give to ``label`` so that it uses the downloaded models."""
    if options.fetch in PRESETS and options.to is None:
        return f"--model {options.fetch}"
    places = [(model.role, str(model.folder) if options.to is not None else model.source) for model in fetched]
    return " ".join(f"--{role} {shlex.quote(place)}" if role else shlex.quote(place) for role, place in places)


COMMAND = Command(
    ModelsOptions,
    run_models,
    examples=(
        "labeler models",
        "labeler models --fetch fast",
        "labeler models --fetch best --to /mnt/models",
    ),
    first=("fetch", "to"),
)
