"""The Kubernetes flags of ``labeler submit``."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from workflows.cluster.manifests import KINDS, ManifestConfig


def add_manifest_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Kubernetes")
    group.add_argument("--print-manifest", choices=KINDS, help="print a manifest for kubectl, and submit nothing")
    group.add_argument("--image", help="container image with labeler and Ray")
    group.add_argument("--namespace", metavar="NAME", help="default: that of kubectl")
    group.add_argument("--schedule", metavar="CRON", help='when to run (default: "0 2 * * *", at two every night)')
    group.add_argument("--time-zone", metavar="NAME", help="of the schedule (default: Etc/UTC)")
    group.add_argument("--storage-claim", metavar="NAME", help="PersistentVolumeClaim with the images and the output")
    group.add_argument("--storage-path", metavar="PATH", help="where pods have it (default: /data)")
    group.add_argument("--secret", metavar="NAME", help="Secret whose keys become environment variables")
    group.add_argument("--memory", metavar="SIZE", help="of a pod that runs models (default: 16Gi)")
    group.add_argument("--run-as-user", type=int, metavar="UID", help="user of all pods (default: 1000)")
    group.add_argument("--retries", type=int, metavar="N", help="attempts after one that broke off (default: 1)")


def take_manifest_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``ManifestConfig`` that ``options`` give; they are taken out of it."""
    return {field.name: options.pop(field.name) for field in fields(ManifestConfig) if field.name in options}
