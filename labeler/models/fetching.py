"""Downloads checkpoints from the hub ahead of a run, so that no worker has to."""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from labeler.errors import ModelError, UsageError
from labeler.models.checkpoints import ask_hub, gated_line
from labeler.models.config import PRESETS
from labeler.models.identity import EMBEDDED, is_on_this_machine, may_fetch, resolve

SMALL_FILES = (".json", ".txt", ".model")  # configuration, vocabularies, sentencepiece
# The first of these that a checkpoint has is what ``from_pretrained`` reads; other copies of the weights are left out.
WEIGHTS = (
    r"model\.safetensors",
    r"model-\d+-of-\d+\.safetensors",
    r"pytorch_model\.bin",
    r"pytorch_model-\d+-of-\d+\.bin",
)
SPARE_BYTES = 2**26  # left free on the disk
HUB_MARK = Path(".cache") / "huggingface"  # what the hub's client leaves in a folder that it filled


@dataclass(frozen=True)
class Fetched:
    """A checkpoint that is on this machine.

    Attributes:
        role: the flag that names it, without ``--``; "" for a hub id that was asked for by itself.
        folder: where its files are.
        size: of its files, in bytes.
    """

    role: str
    source: str
    folder: Path
    size: int


def fetch(name: str, to: Path | None = None) -> list[Fetched]:
    """Download the models of a preset, or one model, unless they are here.

    Args:
        name: a preset, or a hub id (``owner/name`` or ``owner/name@revision``).
        to: a folder that gets a folder per model; None for the hub's cache.

    Raises:
        UsageError: there is no such preset, or a folder in ``to`` holds something else.
        ModelError: a model cannot be downloaded.
    """
    if name in PRESETS:
        sources = PRESETS[name].models
    elif "/" in name and not name.startswith((".", "/", "~")):
        sources = {"": name}
    else:
        raise UsageError(f"--fetch {name}: give a preset ({', '.join(PRESETS)}) or a hub id (owner/name)")
    if any(source.startswith(EMBEDDED) for source in sources.values()):
        raise UsageError(f"--fetch {name}: these models ship with the package, so there is nothing to fetch")
    return [_fetch(role, source, to) for role, source in sources.items()]


def _fetch(role: str, source: str, to: Path | None) -> Fetched:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    if not may_fetch():
        raise ModelError(f"{source} cannot be downloaded while HF_HUB_OFFLINE is set; unset it for this command")
    name, revision = _hub_id(source)
    folder = None if to is None else to / name.rpartition("/")[2]
    if folder is not None and folder.exists() and not (folder.is_dir() and (folder / HUB_MARK).is_dir()):
        raise UsageError(f"{folder} exists and was not filled by `labeler models --fetch`; give another folder to --to")
    try:
        # Check first that the hub answers. Without a network, its client would retry for half a minute.
        ask_hub(name, revision)
        tree = HfApi().list_repo_tree(name, revision=revision)
        sizes = needed_files({entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)})
        if not sizes:
            raise ModelError(f"{source}: this repository has no weights that transformers reads")
        if not is_on_this_machine(source):
            _check_space(sum(sizes.values()), folder or Path(constants.HF_HUB_CACHE))
        path = snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=list(sizes))
    except ModelError:
        raise
    except Exception as error:  # the client raises its own errors, those of its HTTP library, and those of the disk
        if gated := gated_line(name, error):
            raise ModelError(f"{source} {gated}") from error
        raise ModelError(f"{source} cannot be downloaded: {_cause(error)}") from error
    return Fetched(role, source, Path(path), sum(sizes.values()))


def _hub_id(source: str) -> tuple[str, str | None]:
    if os.path.isdir(source):  # `resolve` would take it for the model; it is only a folder of that name
        name, _, revision = source.partition("@")
        return name, revision or None
    return resolve(source, "--fetch")


def needed_files(sizes: dict[str, int]) -> dict[str, int]:
    """Of the files of a repository, by name with their sizes, those that ``from_pretrained`` reads.

    Nothing if there are no weights among them.
    """
    for pattern in WEIGHTS:
        weights = {name for name in sizes if re.fullmatch(pattern, name)}
        if weights:
            return {name: size for name, size in sizes.items() if name in weights or name.endswith(SMALL_FILES)}
    return {}


def _check_space(needed: int, folder: Path) -> None:
    """Refuse a download that the disk cannot hold.

    Raises:
        ModelError: there is less than ``needed`` bytes, and a little, at ``folder``.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed + SPARE_BYTES:
        raise ModelError(f"{folder} has {free / 1e9:.1f} GB free, and the model takes {needed / 1e9:.1f} GB")


def _cause(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return (
            "the hub has no such model, or this account may not read it; check the name, and for a gated model accept "
            "its terms on its page and set HF_TOKEN"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left at {error.filename or 'the cache'}; free some, or name another disk with --to or HF_HOME"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"{error.filename or 'the folder'} is not writable; name another folder with --to or HF_HOME"
    if status is None and any("Connect" in base.__name__ or "Timeout" in base.__name__ for base in type(error).__mro__):
        return "the hub does not answer; check the network, or HF_ENDPOINT if you use a mirror"
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
