"""``labeler submit``: the ``label`` command on a Ray cluster or on Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.setting import setting
from workflows.cluster.submission import DEFAULT_ADDRESS, NAME, Submission, absolute, name_for
from workflows.commands.job_options import NOTES
from workflows.commands.label import COMMAND as LABEL
from workflows.commands.label import LabelOptions
from workflows.commands.messages import complain
from workflows.commands.options import Command, Outcome, changes, everything_given, flags_of, nested
from workflows.settings.changes import Changes
from workflows.settings.manifest import GROUP as KUBERNETES
from workflows.settings.manifest import MANIFESTS, ManifestConfig

if TYPE_CHECKING:
    from workflows.commands.terminal import Terminal

JOB = "job"


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    label: LabelOptions = nested(LabelOptions, without=("address",))
    address: str | None = setting(
        None,
        "address of the cluster's Jobs API",
        metavar="URL",
        group=JOB,
        unset=f"RAY_ADDRESS, or {DEFAULT_ADDRESS}",
    )
    name: str | None = setting(
        None,
        "name of the job; only one job of a name runs at a time",
        metavar="NAME",
        group=JOB,
        unset="derived from OUT",
    )
    no_wait: bool = setting(False, "print the run's id and exit without following its log", group=JOB)
    print_manifest: str | None = setting(
        None, "print a manifest for kubectl instead of submitting", choices=MANIFESTS, group=KUBERNETES, unset="none"
    )
    pods: Changes[ManifestConfig] = changes(ManifestConfig)
    given: Mapping[str, Any] = everything_given()

    def submission(self) -> Submission:
        """What is handed over: the flags of ``label`` that were given, and no defaults, which ``OUT`` may override.

        Raises:
            UsageError, OntologyError: a flag cannot be meant; no cluster should be needed to find that out.
        """
        job = self.label.job()
        named_apart = ("images", "output", "ontology", "engine", "address")
        keys = {flag.name: flag.keys[0] for flag in flags_of(LabelOptions, without=named_apart)}
        return Submission(
            images=self.label.images,
            output=str(self.label.output),
            ontology=job.ontology if self.label.wanted.ontology is not None else None,
            engine=self.given.get("engine"),
            workers=job.engine,
            flags={keys[name]: value for name, value in self.given.items() if name in keys},
        )


def run_submit(options: SubmitOptions, console: Terminal) -> Outcome:
    """The exit code is the job's if that is waited for."""
    name = options.name or name_for(absolute(str(options.label.output)))
    if not re.fullmatch(NAME, name):
        raise UsageError(f"--name {name}: use lower-case letters, digits and hyphens, 36 at most, a letter first")
    job = options.submission()
    if options.print_manifest is not None:
        from workflows.cluster.manifests import default_image, manifest

        pods = options.pods.of(ManifestConfig())
        if not pods.image and not console.quiet:
            complain(f"the image is {default_image()}, which the Dockerfile builds; --image names another")
        print(manifest(options.print_manifest, job, pods, name, options.address), end="")
        return Outcome()
    if options.pods.values:
        flag = next(iter(options.pods.values)).replace("_", "-")
        raise UsageError(f"--{flag} is for a manifest; add --print-manifest {', '.join(MANIFESTS)}")
    from workflows.cluster.submit import jobs_address, submit

    def say(line: str) -> None:
        if not console.quiet:
            complain(line)

    address = jobs_address(options.address)
    job = job.on_ray().located(absolute)
    return Outcome(submit(job, name, address, not options.no_wait, say))


COMMAND = Command(
    SubmitOptions,
    run_submit,
    examples=(
        "labeler submit /mnt/photos -o /mnt/dataset --ontology pets.toml --workers 8 --address http://ray-head:8265",
        'labeler submit s3://bucket/photos -o s3://bucket/dataset --classes "dog, cat" --no-wait',
        "labeler submit s3://bucket/photos -o s3://bucket/dataset --ontology pets.toml --workers 8 "
        "--print-manifest rayjob --image labeler:1",
    ),
    first=(*(name for name in LABEL.first if name != "config"), "address", "name", "no_wait", "config"),
    notes=NOTES,
)
