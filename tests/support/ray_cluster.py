"""A Ray cluster of several nodes on this machine, with GPUs in name only."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import ROOT

PATHS = os.pathsep.join([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
NODE: dict[str, Any] = {
    "num_cpus": 2, "num_gpus": 1, "object_store_memory": 10**8, "env_vars": {"PYTHONPATH": PATHS},
}  # fmt: skip


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """A head without GPUs and two nodes with one each, joined by this process: ``ray.cluster_utils.Cluster``."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")  # read when Ray is imported, as the next one
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    head = NODE | {"num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
