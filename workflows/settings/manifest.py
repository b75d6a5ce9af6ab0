"""Settings of the pods that Kubernetes manifests describe; ``workflows.cluster.manifests`` writes them."""

from __future__ import annotations

from dataclasses import dataclass

from labeler.setting import check, setting

MANIFESTS = ("rayjob", "raycronjob", "cronjob")
GROUP = "Kubernetes"


@dataclass(frozen=True)
class ManifestConfig:
    """What the pods are like.

    Attributes:
        image: container image with labeler and Ray; "" for the one that the Dockerfile of this version builds.
        storage_claim: PersistentVolumeClaim that every pod mounts at ``storage_path``.
        secret: Secret whose keys become environment variables, such as HF_TOKEN or those of the object store.
        memory: of a pod that runs models.
        retries: attempts after one that broke off.
    """

    image: str = setting(
        "",
        "container image with labeler and Ray, such as one built from the Dockerfile",
        metavar="IMAGE",
        group=GROUP,
        unset="labeler:VERSION",
    )
    namespace: str | None = setting(None, "namespace of the job", metavar="NAME", group=GROUP, unset="that of kubectl")
    schedule: str = setting("0 2 * * *", "when to run", metavar="CRON", group=GROUP)
    time_zone: str = setting("Etc/UTC", "time zone of the schedule", metavar="NAME", group=GROUP)
    storage_claim: str | None = setting(
        None, "PersistentVolumeClaim with the images and the output", metavar="NAME", group=GROUP, unset="none"
    )
    storage_path: str = setting("/data", "where pods mount the claim", metavar="PATH", group=GROUP)
    secret: str | None = setting(
        None, "Secret whose keys become environment variables", metavar="NAME", group=GROUP, unset="none"
    )
    memory: str = setting("16Gi", "memory of a pod that runs models", metavar="SIZE", group=GROUP)
    run_as_user: int = setting(1000, "user id of all pods", metavar="UID", group=GROUP)
    retries: int = setting(1, "retries after a failed run", metavar="N", group=GROUP)

    def __post_init__(self) -> None:
        check(self)
