"""The manifests, against Kubernetes' own models and KubeRay's field names, and as the pods would run them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.support.command_line import CLASSES, Run, options_of, write_scenes
from workflows.cluster.submission import Submission, absolute, name_for
from workflows.commands.cli import main
from workflows.settings.changes import Changes
from workflows.settings.engine import EngineConfig

# Fields of ray.io/v1 and what they hold: V1… is a model of Kubernetes' client, [x] a list of x.
# Source: github.com/ray-project/kuberay, release 1.7, ray-operator/apis/ray/v1/{rayjob,raycronjob,raycluster}_types.go.
KUBERAY: dict[str, dict[str, Any]] = {
    "RayJob": {"apiVersion": str, "kind": str, "metadata": "V1ObjectMeta", "spec": "RayJobSpec"},
    "RayCronJob": {"apiVersion": str, "kind": str, "metadata": "V1ObjectMeta", "spec": "RayCronJobSpec"},
    "RayCronJobSpec": {"schedule": str, "timeZone": str, "suspend": bool, "jobTemplate": "RayJobSpec"},
    "RayJobSpec": {
        "entrypoint": str,
        "submissionMode": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "rayClusterSpec": "RayClusterSpec",
        "submitterPodTemplate": "V1PodTemplateSpec",
    },
    "RayClusterSpec": {"rayVersion": str, "headGroupSpec": "HeadGroupSpec", "workerGroupSpecs": ["WorkerGroupSpec"]},
    "HeadGroupSpec": {"rayStartParams": dict, "template": "V1PodTemplateSpec"},
    "WorkerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": "V1PodTemplateSpec",
    },
}
REQUIRED = {
    "RayCronJobSpec": {"schedule", "jobTemplate"},
    "RayClusterSpec": {"headGroupSpec"},
    "HeadGroupSpec": {"rayStartParams", "template"},
    "WorkerGroupSpec": {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}
KINDS = ("rayjob", "raycronjob", "cronjob")
IN_POD = ("/data/my photos", "-o", "/data/out", "--classes", "dog, cat")
ON_CLAIM = ("--image", "registry/labeler:1", "--storage-claim", "photos")


def check(value: Any, kind: Any, where: str) -> None:
    """``value`` is a ``kind``, with no field too many and none too few, down to the leaves."""
    if isinstance(kind, list):
        assert isinstance(value, list), where
        for index, item in enumerate(value):
            check(item, kind[0], f"{where}[{index}]")
    elif not isinstance(kind, str):
        assert type(value) is kind, f"{where}: {value!r}"
    elif kind in KUBERAY:
        assert value.keys() <= KUBERAY[kind].keys(), f"{where}: {value.keys() - KUBERAY[kind].keys()}"
        assert value.keys() >= REQUIRED.get(kind, set()), where
        for name, item in value.items():
            check(item, KUBERAY[kind][name], f"{where}.{name}")
    else:  # the client's models refuse wrong types and missing fields, and drop what they do not know
        model = getattr(client, kind).from_dict(value)
        assert client.ApiClient().sanitize_for_serialization(model) == value, where


@pytest.mark.parametrize(
    "wrong",
    [
        {"apiVersion": "ray.io/v1", "kind": "RayJob", "spec": {"entryPoint": "x"}},
        {"kind": "RayJob", "spec": {"ttlSecondsAfterFinished": "600"}},
        {"kind": "RayJob", "spec": {"submitterPodTemplate": {"spec": {"containers": [], "volume": []}}}},
        {"kind": "RayJob", "spec": {"submitterPodTemplate": {"spec": {"containers": [{"image": "no name"}]}}}},
        {"kind": "RayCronJob", "spec": {"schedule": "0 2 * * *"}},
        {"kind": "RayCronJob", "spec": {"schedule": "0 2 * * *", "jobTemplate": {"spec": {}}}},
    ],
)
def test_the_check_sees_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(wrong, wrong["kind"], "")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    """The documents that ``labeler submit --print-manifest`` prints."""

    def run(kind: str, *arguments: object) -> list[dict[str, Any]]:
        code = main(["submit", "--print-manifest", kind, *map(str, arguments)])
        output = capsys.readouterr()
        assert (code, output.err) == (0, "")
        return list(yaml.safe_load_all(output.out))

    return run


def pod_specs(document: Any) -> Iterator[dict[str, Any]]:
    """Every pod of a manifest, wherever it stands."""
    if isinstance(document, dict):
        if "containers" in document:
            yield document
        for value in document.values():
            yield from pod_specs(value)
    elif isinstance(document, list):
        for item in document:
            yield from pod_specs(item)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--namespace", "ml", "--secret", "keys", "--schedule", "*/5 * * * *", "--time-zone", "Europe/Berlin"),
        ("--address", "http://ray:8265", "--workers", "4", "--gpus-per-worker", "0.5", "--include-review"),
    ],
)
def test_every_field_is_known(kind: str, more: tuple[str, ...], printed: Any) -> None:
    config, job = printed(kind, *IN_POD, *ON_CLAIM, *more)
    check(config, "V1ConfigMap", "ConfigMap")
    kinds = {
        "rayjob": ("ray.io/v1", "RayJob"), "raycronjob": ("ray.io/v1", "RayCronJob"), "cronjob": ("batch/v1", "CronJob")
    }  # fmt: skip
    assert (job["apiVersion"], job["kind"]) == kinds[kind]
    check(job, "V1CronJob" if kind == "cronjob" else job["kind"], job["kind"])
    assert job["metadata"]["name"] == config["metadata"]["name"]
    assert {document["metadata"].get("namespace") for document in (config, job)} == {"ml" if "ml" in more else None}
    pods = list(pod_specs(job))
    assert len(pods) == (1 if kind == "cronjob" else 3)
    for pod in pods:
        (container,) = pod["containers"]
        # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        named = {volume["name"]: volume for volume in pod["volumes"]}
        assert named["config"]["configMap"]["name"] == config["metadata"]["name"]
        assert named["storage"]["persistentVolumeClaim"]["claimName"] == "photos"
        assert {mount["name"] for mount in container["volumeMounts"]} == set(named)
        assert container.get("envFrom") == ([{"secretRef": {"name": "keys"}}] if "keys" in more else None)


def test_what_a_schedule_says(printed: Any) -> None:
    when = ("--schedule", "*/5 * * * *", "--time-zone", "Europe/Berlin", "--retries", "3")
    _, ray = printed("raycronjob", *IN_POD, *ON_CLAIM, *when)
    assert (ray["spec"]["schedule"], ray["spec"]["timeZone"]) == ("*/5 * * * *", "Europe/Berlin")
    template = ray["spec"]["jobTemplate"]
    assert template == printed("rayjob", *IN_POD, *ON_CLAIM, *when)[1]["spec"]
    assert (template["backoffLimit"], template["shutdownAfterJobFinishes"]) == (3, True)
    assert template["ttlSecondsAfterFinished"] > 0
    _, plain = printed("cronjob", *IN_POD, *ON_CLAIM, *when)
    spec = plain["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("*/5 * * * *", "Europe/Berlin")
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 3
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy demands it
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2, 3, 4]}}


@pytest.mark.parametrize(
    ("flags", "pods", "cpu", "gpu"),
    [
        ((), 1, "4", "1"),
        (("--workers", "8", "--cpus-per-worker", "6"), 8, "6", "1"),
        (("--workers", "2", "--gpus-per-worker", "2"), 2, "4", "2"),
        (("--workers", "3", "--gpus-per-worker", "0.5"), 2, "8", "1"),  # two share a GPU, so they share a pod
        (("--workers", "3", "--gpus-per-worker", "0", "--cpus-per-worker", "2"), 3, "2", None),
    ],
)
def test_workers(flags: tuple[str, ...], pods: int, cpu: str, gpu: str | None, printed: Any) -> None:
    _, job = printed("rayjob", *IN_POD, *ON_CLAIM, *flags, "--memory", "24Gi")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (pods, pods, pods)
    pod = group["template"]["spec"]
    wanted = {"cpu": cpu, "memory": "24Gi", **({"nvidia.com/gpu": gpu} if gpu else {})}
    assert pod["containers"][0]["resources"] == {"requests": wanted, "limits": wanted}
    assert ("tolerations" in pod) == (gpu is not None)


def test_a_range_of_workers_lets_the_cluster_grow(printed: Any) -> None:
    _, job = printed("rayjob", *IN_POD, *ON_CLAIM, "--workers", "3-8", "--gpus-per-worker", "0.5")
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 4)
    _, fixed = printed("rayjob", *IN_POD, *ON_CLAIM, "--workers", "3")
    assert "enableInTreeAutoscaling" not in fixed["spec"]["rayClusterSpec"]
    configs, _ = printed("rayjob", *IN_POD, *ON_CLAIM, "--workers", "3-8")
    assert 'workers = "3-8"' in configs["data"]["job.toml"]


def test_one_pod_for_all_workers(printed: Any) -> None:
    _, job = printed("cronjob", *IN_POD, *ON_CLAIM, "--workers", "4", "--cpus-per-worker", "2")
    (pod,) = pod_specs(job)
    # Four workers of two CPUs, and two beside them.
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "10", "memory": "16Gi", "nvidia.com/gpu": "4"}


@pytest.mark.parametrize("kind", KINDS)
def test_pods_are_told_what_was_said_here(kind: str, tmp_path: Path, printed: Any) -> None:
    flags = (
        "--model", "fast", "--floor", "0.2", "--min-area", "40", "--no-include-review", "--formats", "coco",
        "--retry-failed", "--workers", "3", "--shard-size", "9", "--class-accept-score", "dog=0.4",
    )  # fmt: skip
    address = ("--address", "http://ray:8265") if kind == "cronjob" else ()
    config, job = printed(kind, *IN_POD, *ON_CLAIM, *flags, *address)
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text)
    if kind == "cronjob":
        (pod,) = pod_specs(job)
        command = pod["containers"][0]["command"]
    else:
        command = shlex.split(job["spec"].get("jobTemplate", job["spec"])["entrypoint"])
    (mount,) = {
        mount["mountPath"]
        for pod in pod_specs(job)
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] == "config"
    }
    told = options_of([argument.replace(mount, str(tmp_path)) for argument in command[1:]])
    said = options_of(["label", *IN_POD, *flags])
    run = {**said.run.values, "allow_failures": True}  # a RayJob is tried again after every code but 0
    if kind == "cronjob":
        assert (told.name, told.address) == (job["metadata"]["name"], "http://ray:8265")
        told = told.label
    else:
        run["engine"] = "ray"
    assert told == replace(said, run=Changes(run))


@pytest.mark.slow
def test_the_pod_of_a_cron_job_labels(tmp_path: Path, printed: Any, labeler: Run) -> None:
    write_scenes(tmp_path / "my scenes", range(2))
    here = ("--image", "labeler", "--storage-claim", "photos", "--storage-path", tmp_path)
    model = ("--model", "demo", "--classes", CLASSES, "--device", "cpu", "--formats", "coco")
    config, job = printed("cronjob", tmp_path / "my scenes", "-o", tmp_path / "out", *here, *model)
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text)
    (pod,) = pod_specs(job)
    assert pod["containers"][0]["command"][0] == "labeler"
    told = [argument.replace("/etc/labeler", str(tmp_path)) for argument in pod["containers"][0]["command"][1:]]
    done = labeler(*told)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out" / "images").rglob("*.png")} == {"scene_000.png", "scene_001.png"}
    assert not (tmp_path / "out" / "labels").exists()
    run = json.loads((tmp_path / "out" / "run" / "run.json").read_text())
    assert ", ".join(item["name"] for item in run["ontology"]["classes"]) == CLASSES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("photos", "-o", "/data/out", *ON_CLAIM), "photos: no pod knows this folder"),
        (("/data/photos", "-o", "out", *ON_CLAIM), "out: no pod knows this folder"),
        (("/photos", "-o", "/data/out", *ON_CLAIM), "/photos: not on the claim, which pods have at /data"),
        (("/data/../photos", "-o", "/data/out", *ON_CLAIM), "/data/../photos: not on the claim"),
        (("/data2", "-o", "/data/out", *ON_CLAIM), "/data2: not on the claim"),
        (
            ("/data/in", "-o", "/data/out", *ON_CLAIM, "--storage-path", "data"),
            "not on the claim, which pods have at data",
        ),
        (("/data/in", "-o", "/data/out", "--image", "x"), "/data/in: name the PersistentVolumeClaim"),
        (("/data/in", "-o", "/data/out", *ON_CLAIM, "--segmenter", "./sam"), "./sam: no pod knows this folder"),
        (("/data/in", "-o", "/data/out", *ON_CLAIM, "--name", "Night_Job"), "--name Night_Job: use lower-case"),
        (("/data/in", "-o", "/data/out", *ON_CLAIM, "--floor", "2"), "floor must be"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_mistakes_are_one_line(
    kind: str, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--print-manifest", kind, "--classes", "dog", *arguments]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert output.err.count("\n") == 1
    assert not output.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("in", "-o", "out"), "say what to look for"),
        (("in", "-o", "out", "--classes", "dog", "--image", "x"), "--image is for a manifest"),
        (("in", "-o", "out", "--classes", "dog", "--address", "head:8265"), "write it as a URL"),
        (("in", "-o", "out", "--classes", "dog", "--accept-score", "7"), "--accept-score must be"),
        (
            ("in", "-o", "out", "--classes", "dog", "--workers", "0"),
            "--workers must be a whole number, 1 or more, or a range such as 2-8, not 0",
        ),
        (
            (
                "s3://b/in",
                "-o",
                "s3://b/out",
                "--classes",
                "dog",
                "--workers",
                "2-8",
                "--print-manifest",
                "cronjob",
                "-q",
            ),
            "--workers 2-8: the one pod of a cronjob does not grow",
        ),
        (("in", "-o", "out", "--classes", "dog", "--workers", "8-2"), "--workers 8-2: the smaller number comes first"),
        (
            ("in", "-o", "out", "--classes", "dog", "--shard-size", "0"),
            "--shard-size must be a whole number from 1 to 1000000",
        ),
    ],
)
def test_mistakes_are_found_without_a_cluster(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert output.err.count("\n") == 1


def test_the_image_is_that_of_the_dockerfile_unless_another_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    job = ["submit", "s3://b/in", "-o", "s3://b/out", "--classes", "dog", "--print-manifest", "cronjob"]
    images = []
    for more in ([], ["--image", "registry/labeler:7"]):
        assert main([*job, *more]) == 0
        output = capsys.readouterr()
        (spec,) = [spec for document in yaml.safe_load_all(output.out) for spec in pod_specs(document)]
        images.append(spec["containers"][0]["image"])
        assert ("--image names another" in output.err) == (not more)
    assert images == [f"labeler:{version('autodistill-labeler')}", "registry/labeler:7"]


def test_uris_stay_as_they_are_and_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"box_threshold": ".5", "weights": "./weights.pt"}
    models = {"detector": "./gd", "verify": "./siglip", "segmenter": "facebook/sam2.1-hiera-tiny"}
    flags = {"classes": "dog", **models, "labeler-args": arguments}
    given = Submission("s3://bucket/raw images", "gs://bucket/out", None, None, EngineConfig(), flags)
    job = given.located(absolute)
    assert (job.images, job.output) == ("s3://bucket/raw images", "gs://bucket/out")
    models |= {"detector": str(tmp_path / "gd"), "verify": str(tmp_path / "siglip")}
    arguments = {"box_threshold": ".5", "weights": str(tmp_path / "weights.pt")}
    assert job.flags == {"classes": "dog", **models, "labeler-args": arguments}
    assert absolute("photos/**/*.jpg") == str(tmp_path / "photos/**/*.jpg")
    assert name_for("s3://bucket/out") != name_for("gs://bucket/out")
    assert name_for("/mnt/A dataset, of many words and dogs/") == name_for("/mnt/A dataset, of many words and dogs/")
