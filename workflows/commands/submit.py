"""``labeler submit``."""

from __future__ import annotations

import argparse
import re
from typing import Any

from labeler.errors import UsageError
from ontologies import Ontology
from workflows.cluster.manifests import manifest
from workflows.cluster.submission import NAME, absolute, name_for, submission_from
from workflows.cluster.submit import DEFAULT_ADDRESS, jobs_address, submit
from workflows.commands.flags import job_from
from workflows.commands.manifest_flags import add_manifest_flags, take_manifest_flags


def add_submit_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "job", f"--address is that of the cluster's Jobs API (default: RAY_ADDRESS, or {DEFAULT_ADDRESS})"
    )
    group.add_argument("--name", help="one job of a name runs at a time (default: made from the output's location)")
    group.add_argument("--no-wait", action="store_true", help="print the run's id and leave; its log is not followed")
    add_manifest_flags(parser)


def run_submit(options: dict[str, Any]) -> int:
    """The ``submit`` command; its exit code is returned, which is the job's if that is waited for."""
    options = dict(options)
    name = options.pop("name", None) or name_for(absolute(str(options["output"])))
    if not re.fullmatch(NAME, name):
        raise UsageError(f"--name {name}: use lower-case letters, digits and hyphens, 36 at most, a letter first")
    address, no_wait = options.pop("address", None), options.pop("no_wait", False)
    kind = options.pop("print_manifest", None)
    pods = take_manifest_flags(options)
    if kind:
        print(manifest(kind, options, _ontology_file(options), pods, name, address), end="")
        return 0
    if pods:
        flag = next(iter(pods)).replace("_", "-")
        raise UsageError(f"--{flag} is for a manifest; add --print-manifest rayjob, raycronjob or cronjob")
    address = jobs_address(address)
    job = submission_from({"engine": "ray", **options}, _ontology_file(options), absolute)
    return submit(job, name, address, wait=not no_wait)


def _ontology_file(options: dict[str, Any]) -> Ontology | None:
    """The ontology that the flags of ``label`` name by a file.

    Raises:
        UsageError: a flag is wrong; no cluster should be needed to find that out.
    """
    job = job_from(options)
    return job.ontology if "ontology" in options else None
