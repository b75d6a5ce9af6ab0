"""``labeler submit``: the ``label`` command on a Ray cluster, by Ray's Jobs API.

The configuration travels in the job's working directory; images, models and the dataset stay where the cluster finds
them. Each start under a name is a run of its own, NAME-1, NAME-2, …: Ray does not support giving an id a second time,
and two starts at once collide on the number, so that only one of them begins.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.paths import is_uri
from workflows.cluster.submission import DEFAULT_ADDRESS, Submission
from workflows.run.exit_codes import INTERRUPTED, NOTHING_LABELED, SOME_FAILED, TOO_MANY_FAILURES, USAGE

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

COMMAND_NOT_FOUND = 127
QUIET_SECONDS = 30.0  # a proxy may drop a silent connection without a word, so a new one is made after this
RETRIES, RETRY_SECONDS = 30, 2.0


def submit(
    job: Submission,
    name: str,
    address: str = DEFAULT_ADDRESS,
    wait: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Start ``job``, and follow it to its end if ``wait``.

    Args:
        address: of the cluster's Jobs API, or whatever else Ray makes one of.
        say: gets what is worth knowing of the run, line by line.

    Returns:
        The exit code of ``labeler label`` on the cluster; 130 if that or the waiting was stopped; 0 without ``wait``.

    Raises:
        UsageError: there is no cluster at ``address``, it refuses the token, has no labeler or could not start the job,
            or a run of that name is under way.
    """
    with tempfile.TemporaryDirectory(prefix="labeler-") as folder:
        job.write(Path(folder))
        with _in_one_line(address):
            from ray.job_submission import JobSubmissionClient

            for handler in logging.getLogger("ray").handlers:
                handler.setLevel(logging.WARNING)  # how a package travels is nobody's concern
            client = JobSubmissionClient(address)
            run = _start(client, job, folder, name, address)
    paths = " and ".join(location for location in (job.images, job.output) if not is_uri(location))
    say(f"started {run} on {address}{paths and f', which must see {paths}'}")
    if not wait:
        say(f"to follow its log: ray job logs --follow {run} --address {address}")
        print(run)
        return 0
    try:
        with _in_one_line(address):
            details = _follow(client, run)
    except KeyboardInterrupt:
        say(f"{run} goes on without being followed; to stop it: ray job stop {run} --address {address}")
        return INTERRUPTED
    return _exit_code(details, run, say)


def jobs_address(given: str | None) -> str:
    if given is None:
        return os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS
    if not is_uri(given):
        raise UsageError(f"--address {given}: write it as a URL, such as {DEFAULT_ADDRESS}")
    os.environ["RAY_API_SERVER_ADDRESS"] = given  # Ray's client prefers the variable to its argument
    return given


def _start(client: JobSubmissionClient, job: Submission, folder: str, name: str, address: str) -> str:
    """The id of the new run, which works in a copy of ``folder``."""
    runs = {}
    for details in client.list_jobs():
        if found := re.fullmatch(rf"{name}-(\d+)", details.submission_id or ""):
            runs[int(found[1])] = details
    for number, details in runs.items():
        if not details.status.is_terminal():
            raise _under_way(f"{name}-{number}", address)
    run = f"{name}-{max(runs, default=0) + 1}"
    command = shlex.join(["labeler", "label", *job.arguments()])
    for left in range(RETRIES, -1, -1):
        try:
            client.submit_job(entrypoint=command, submission_id=run, runtime_env={"working_dir": folder})
            break
        except RuntimeError as error:
            if "already exists" in str(error):  # another start came in between
                raise _under_way(run, address) from None
            if "try again later" not in str(error) or not left:
                raise
            time.sleep(RETRY_SECONDS)  # a cluster that has just started has no agent yet
    return run


def _under_way(run: str, address: str) -> UsageError:
    return UsageError(
        f"{run} is under way; wait, stop it (ray job stop {run} --address {address}), or take another --name"
    )


def _follow(client: JobSubmissionClient, run: str) -> JobDetails:
    """Show the log until the run has ended, whatever becomes of the connection in between."""
    shown = failures = 0
    while True:
        shown = asyncio.run(_show_log(client, run, shown))
        try:
            details = client.get_job_info(run)
            failures = 0
        except (OSError, RuntimeError):
            failures += 1
            if failures > RETRIES:
                raise
        else:
            if details.status.is_terminal():
                break
        time.sleep(RETRY_SECONDS)
    rest = ""
    with suppress(OSError, RuntimeError):  # the exit code counts more than the end of the log
        rest = client.get_job_logs(run)[shown:]
    sys.stdout.write(rest)
    return details


async def _show_log(client: JobSubmissionClient, run: str, shown: int) -> int:
    """Write the log from its character ``shown`` on, until it ends or the connection does; how far it came."""
    seen = 0
    log = client.tail_job_logs(run)
    while True:
        # Not `wait_for`: that forgets a Ctrl-C which comes together with a line of the log, before Python 3.12.
        line = asyncio.ensure_future(anext(log))
        await asyncio.wait([line], timeout=QUIET_SECONDS)
        if not line.done() or line.exception():
            line.cancel()
            return shown  # the end, silence, or whatever cut the connection: the run's status tells them apart
        text = line.result()
        seen += len(text)
        if seen > shown:
            sys.stdout.write(text[shown - seen :])
            sys.stdout.flush()
            shown = seen


def _exit_code(details: JobDetails, run: str, say: Callable[[str], None]) -> int:
    status, code = details.status.name, details.driver_exit_code
    if status == "STOPPED":
        say(f"{run} was stopped")
        return INTERRUPTED
    if status == "SUCCEEDED":
        return 0
    if code is None:
        raise UsageError(f"{run} failed: {_cause(details.message)}")
    if code == COMMAND_NOT_FOUND:
        wanted = f"autodistill-labeler=={version('autodistill-labeler')}"
        raise UsageError(f"{run}: the cluster has no labeler command; install {wanted} where its nodes run")
    if code not in (SOME_FAILED, USAGE, NOTHING_LABELED, TOO_MANY_FAILURES):  # for these, labeler itself has said why
        say(f"{run} broke off with exit code {code}")
    return int(128 - code if code < 0 else code)


@contextmanager
def _in_one_line(address: str) -> Iterator[None]:
    """What Ray's client raises for a user's mistake fills a screen."""
    from ray.exceptions import RayError

    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError, ValueError, RayError) as error:
        if type(error).__name__ == "AuthenticationError":  # a RayError, by its name since older Rays have none
            raise UsageError(
                f"{address}: the cluster does not take the token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
                "RAY_AUTH_TOKEN_PATH to the token that it was started with"
            ) from None
        if "ray[default]" in str(error):
            raise UsageError(
                "submit needs Ray's Jobs API, which is not installed; run `pip install 'ray[default]'`"
            ) from None
        raise UsageError(
            f"{address}: no Ray cluster answers ({_cause(str(error))}); is it up? --address names another"
        ) from None


def _cause(text: str | None) -> str:
    """The telling line: of a traceback the last, else the first."""
    lines = (text or "").strip().splitlines() or ["no cause given"]
    return lines[-1 if any("Traceback (most recent" in line for line in lines) else 0]
