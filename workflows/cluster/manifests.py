"""The labeling as Kubernetes manifests: KubeRay's RayJob and RayCronJob, or a plain CronJob. No cluster is touched.

Fields of ``ray.io/v1`` are those of KubeRay 1.7, where RayCronJob is alpha, behind the feature gate of that name. Pods
keep to Kubernetes' "restricted" pod security standard.
"""

from __future__ import annotations

import math
import posixpath
import shlex
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from labeler.errors import UsageError
from labeler.files.paths import is_uri
from workflows.cluster.submission import Submission
from workflows.run.exit_codes import NOTHING_LABELED, SOME_FAILED, TOO_MANY_FAILURES, USAGE
from workflows.settings.manifest import ManifestConfig

CONFIG_FOLDER = "/etc/labeler"
SPARE_CPUS = 2  # for the process that starts the run, beside the workers
HEAD = {"cpu": str(SPARE_CPUS), "memory": "8Gi"}
SUBMITTER = {"cpu": "1", "memory": "2Gi"}
WORKER_CPUS = 4
KEPT_SECONDS = 3600  # a finished cluster stays that long, for a look at its logs
GPU = "nvidia.com/gpu"
# Exit codes after which another attempt would end in the same. To submit may end with 2 for a cluster out of reach.
# KubeRay has no such rule: a RayJob is tried again, on a new cluster, whatever the code, unless that is 0.
LABEL_IS_FINAL = [SOME_FAILED, USAGE, NOTHING_LABELED, TOO_MANY_FAILURES]
SUBMIT_IS_FINAL = [SOME_FAILED, NOTHING_LABELED, TOO_MANY_FAILURES]
Manifest = dict[str, Any]


def manifest(kind: str, job: Submission, pods: ManifestConfig, name: str, address: str | None) -> str:
    """YAML of the ``kind`` of job, behind a ConfigMap with the configuration that its pods read.

    Args:
        kind: one of ``MANIFESTS``.
        job: with the locations as they are named here.
        address: of a running Ray cluster, for ``cronjob`` to submit to; without one its pod labels by itself.

    Raises:
        UsageError: a path is none that a pod can know.
    """
    submits = kind == "cronjob" and address is not None
    if kind != "cronjob":
        job = job.on_ray()
    # Some failed images are no failed job. A flag says so, since shells on the way to Ray would expand a `$?`.
    job = replace(job, flags={**job.flags, "allow-failures": True})
    job = job.located(lambda location: _in_pod(location, None if submits else pods))
    api_version, kind_name, spec = KINDS[kind](job, pods, name, address)
    metadata = {"name": name, **({"namespace": pods.namespace} if pods.namespace else {})}
    with tempfile.TemporaryDirectory(prefix="labeler-") as folder:
        job.write(Path(folder))
        data = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).iterdir())}
    documents = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
        {"apiVersion": api_version, "kind": kind_name, "metadata": metadata, "spec": spec},
    ]
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def default_image() -> str:
    """The name that docs/guides/docker.md gives to the image of this version."""
    return f"labeler:{version('autodistill-labeler')}"


def _in_pod(location: str, pods: ManifestConfig | None) -> str:
    """``location`` if pods can know it; ``pods`` is None where it is another cluster that must."""
    path = posixpath.normpath(location)
    if is_uri(location) or (pods is None and path.startswith("/")):
        return location
    if pods is None or not path.startswith("/"):
        raise UsageError(f"{location}: no pod knows this folder; give the absolute path that pods have, or a URI")
    if pods.storage_claim is None:
        raise UsageError(f"{location}: name the PersistentVolumeClaim that holds it by --storage-claim, or give a URI")
    if not PurePosixPath(path).is_relative_to(pods.storage_path):
        raise UsageError(f"{location}: not on the claim, which pods have at {pods.storage_path}; see --storage-path")
    return path


def _ray_job(job: Submission, pods: ManifestConfig, name: str, address: str | None) -> tuple[str, str, Manifest]:
    # Workers that share a GPU share a pod.
    most, gpus = job.workers.most_workers or 1, _gpus(job)
    least = job.workers.least_workers
    together = max(1, min(most, int(1 / gpus))) if 0 < gpus < 1 else 1
    first, count = math.ceil((least or most) / together), math.ceil(most / together)
    worker = _models_resources(job, pods, together)
    spec = {
        "entrypoint": shlex.join(["labeler", "label", *job.arguments(CONFIG_FOLDER)]),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "backoffLimit": pods.retries,
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            **({"enableInTreeAutoscaling": True} if least else {}),
            "headGroupSpec": {"rayStartParams": {}, "template": _pod("ray-head", HEAD, pods, name)},
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": first,
                    "minReplicas": first,
                    "maxReplicas": count,
                    "rayStartParams": {},
                    "template": _pod("ray-worker", worker, pods, name),
                }
            ],
        },
        "submitterPodTemplate": _pod("submitter", SUBMITTER, pods, name, restartPolicy="Never"),
    }
    return "ray.io/v1", "RayJob", spec


def _ray_cron_job(job: Submission, pods: ManifestConfig, name: str, address: str | None) -> tuple[str, str, Manifest]:
    _, _, template = _ray_job(job, pods, name, address)
    return "ray.io/v1", "RayCronJob", {"schedule": pods.schedule, "timeZone": pods.time_zone, "jobTemplate": template}


def _cron_job(job: Submission, pods: ManifestConfig, name: str, address: str | None) -> tuple[str, str, Manifest]:
    if address is None:
        command, final = ["labeler", "label", *job.arguments(CONFIG_FOLDER)], LABEL_IS_FINAL
        if job.workers.least_workers:
            raise UsageError(
                f"--workers {job.workers.workers}: the one pod of a cronjob does not grow; give a plain number, or "
                "--print-manifest raycronjob"
            )
        resources = _models_resources(job, pods, job.workers.most_workers or 1, SPARE_CPUS)
    else:
        own = ["--name", name, "--address", address]
        command, final = ["labeler", "submit", *job.arguments(CONFIG_FOLDER), *own], SUBMIT_IS_FINAL
        resources = SUBMITTER
    template = _pod("labeler", resources, pods, name, command, restartPolicy="Never")
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": final}}
    spec = {
        "schedule": pods.schedule,
        "timeZone": pods.time_zone,
        "concurrencyPolicy": "Forbid",
        "jobTemplate": {
            "spec": {"backoffLimit": pods.retries, "podFailurePolicy": {"rules": [rule]}, "template": template}
        },
    }
    return "batch/v1", "CronJob", spec


KINDS = {"rayjob": _ray_job, "raycronjob": _ray_cron_job, "cronjob": _cron_job}


def _models_resources(job: Submission, pods: ManifestConfig, workers: int, spare_cpus: int = 0) -> dict[str, str]:
    """What a pod with that many workers needs."""
    cpus, gpus = job.workers.cpus_per_worker or WORKER_CPUS, _gpus(job)
    resources = {"cpu": str(math.ceil(workers * cpus) + spare_cpus), "memory": pods.memory}
    return resources | ({GPU: str(math.ceil(workers * gpus))} if gpus else {})


def _gpus(job: Submission) -> float:
    return 1 if job.workers.gpus_per_worker is None else job.workers.gpus_per_worker


def _pod(
    container: str,
    resources: dict[str, str],
    pods: ManifestConfig,
    config_map: str,
    command: list[str] | None = None,
    **spec: Any,
) -> Manifest:
    """A pod template of one container."""
    volumes: list[Manifest] = [{"name": "config", "configMap": {"name": config_map}}]
    mounts = [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}]
    inside: Manifest = {"command": command} if command else {}
    if pods.storage_claim:
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": pods.storage_claim}})
        mounts.append({"name": "storage", "mountPath": pods.storage_path})
        # Models of the hub are fetched once, not by every pod of every night.
        inside["env"] = [{"name": "HF_HOME", "value": posixpath.join(pods.storage_path, ".cache/huggingface")}]
    if pods.secret:
        inside["envFrom"] = [{"secretRef": {"name": pods.secret}}]
    if GPU in resources:  # nodes with GPUs are commonly kept free of other pods by this taint
        spec["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "spec": {
            **spec,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": pods.run_as_user,
                "fsGroup": pods.run_as_user,
                "fsGroupChangePolicy": "OnRootMismatch",  # not file by file through a large claim, every night
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": container,
                    "image": pods.image or default_image(),
                    **inside,
                    "resources": {"requests": resources, "limits": resources},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        }
    }


class _Dumper(yaml.SafeDumper):
    """Files as blocks to be read, and everything written out where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
