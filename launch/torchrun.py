"""Taking part in a run whose processes torchrun started, on one node or many.

    rank 0      decides the run, tells it to the others through the store, and watches it from a
                thread (Monitor); the same loop that the parent runs in our own launcher
    rank k      waits for the decision and takes part

A restart by torchrun (--max-restarts) finds the run's name in torchrun's store and continues from
its newest checkpoint.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record

from ..pipeline.feed import StopRequest
from .config import RunConfig
from .folder import default_name
from .job import Job, Objects
from .membership import Membership
from .monitor import Monitor
from .outcome import Outcome
from .preparation import Preparation
from .program import Program, find_program
from .rank import Rank
from .refusal import ConfigError

__all__ = ["take_part"]

POLL_SECONDS = 0.1
SIGNAL_SECONDS = {signal.SIGTERM: 5.0, signal.SIGINT: 25.0}
"""How long a rank that torchrun wants to end tries to get a checkpoint written."""

FOLDER_SECONDS = 30.0

FAILURE_SECONDS = 1.0
"""How long rank 0 lets a failing rank end by itself before it ends the run."""


def take_part(
    command: str,
    config: RunConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    announce: Any = lambda preparation: None,
) -> Outcome:
    """Be one of torchrun's ranks until the run ends.

    Args:
        command: The command, e.g. ``"train"``.
        config: The composed configuration; every rank has the same.
        objects: What a Python caller brought along; every rank has its own.
        overrides: What the user typed.
        announce: Called by rank 0 with the decided run.

    Returns:
        The outcome; on ranks other than 0 it has no summary.

    Raises:
        ConfigError: The run cannot be as asked.
    """
    member = Membership.from_environment()
    program = find_program(command)
    program.check_ranks(config, member)
    stop = StopRequest()
    _handle_signals(stop)
    if member.rank == 0:
        return _lead(command, config, objects, overrides, member, stop, announce)
    job = _await_decision(program, member)
    _check_folder(job, member)
    _run(program.rank(job, objects, member, stop=stop))
    return Outcome(str(job.folder.path), "finished")


@record
def _run(rank: Rank[Any]) -> None:
    """Run a rank so that torchrun's summary shows its error and traceback."""
    rank.run()


def _lead(
    command: str,
    config: RunConfig,
    objects: Objects,
    overrides: Sequence[str],
    member: Membership,
    stop: StopRequest,
    announce: Any,
) -> Outcome:
    store = member.store()
    try:
        preparation = _decide(command, config, objects, overrides, member)
    except Exception as error:
        store.set("decision", f"refused {error}")
        raise
    job, program = preparation.job, find_program(command)
    announce(preparation)
    store.set("decision", f"job {job.to_json()}")
    watching = Watching(program.monitor.of(job, member), member)
    watching.start()
    try:
        _run(program.rank(job, objects, member, stop=stop))
    except BaseException:
        watching.abandon()
        raise
    return watching.join()


def _decide(
    command: str,
    config: RunConfig,
    objects: Objects,
    overrides: Sequence[str],
    member: Membership,
) -> Preparation[Any]:
    """Decide the run; after a restart of all ranks, continue it."""
    config = copy.deepcopy(config)
    run = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    lasting = replace(member, prefix=f"blockstep/{run}").store()
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if config.name is None and config.resume is None:
        config.name = run if run != "none" else default_name(command)
    if restarts and lasting.check(["name"]):
        config.name = lasting.get("name").decode()
        config.resume = "auto"
    elif config.name is not None:
        lasting.set("name", config.name)
    prepare = find_program(command).prepare
    return prepare(command, config, objects, overrides=overrides, member=member)


def _await_decision(program: Program, member: Membership) -> Job:
    store = member.store()
    store.wait(["decision"], timedelta(hours=1))
    kind, _, text = store.get("decision").decode().partition(" ")
    if kind == "refused":
        raise ConfigError(f"rank 0 refused the run: {text}")
    return program.job.from_json(text)


def _check_folder(job: Job, member: Membership) -> None:
    """Several nodes need a shared folder: what rank 0 wrote must be seen here."""
    deadline = time.monotonic() + FOLDER_SECONDS
    while not job.folder.config.exists():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"rank {member.rank} does not see {job.folder.path.absolute()}, which rank 0 made; "
                "put runs=FOLDER on a file system that all nodes share"
            )
        time.sleep(0.2)


def _handle_signals(stop: StopRequest) -> None:
    """End with a checkpoint if the neighbours still live; never take longer than allowed."""

    def handle(number: int, frame: Any) -> None:
        stop.set()
        seconds = SIGNAL_SECONDS[signal.Signals(number)]
        timer = threading.Timer(seconds, lambda: os._exit(128 + number))
        timer.daemon = True
        timer.start()

    if threading.current_thread() is threading.main_thread():
        for number in SIGNAL_SECONDS:
            signal.signal(number, handle)


class Watching:
    """The monitor of a run, in a thread of rank 0.

    Args:
        monitor: Follows the run.
        member: Rank 0.
    """

    def __init__(self, monitor: Monitor[Any], member: Membership) -> None:
        self._member = member
        self._began = time.perf_counter()
        self._monitor = monitor
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def join(self) -> Outcome:
        """Wait until all ranks have finished; write the summary."""
        self._thread.join()
        seconds = time.perf_counter() - self._began
        outcome = self._monitor.conclude(status="finished", seconds=seconds)
        self._monitor.close(outcome.summary)
        return outcome

    def abandon(self) -> None:
        """This rank failed: stop watching and note what is known."""
        self._abandoned = True
        self._thread.join(5.0)
        self._monitor.poll()
        self._monitor.close(None)

    def _run(self) -> None:
        while not self._monitor.done and not self._abandoned:
            self._monitor.poll()
            if self._monitor.failure is not None:
                time.sleep(FAILURE_SECONDS)
                if not self._raises_itself():
                    self._give_up()
            time.sleep(POLL_SECONDS)

    def _raises_itself(self) -> bool:
        """Whether this rank has failed too: its main thread then ends it, with its traceback."""
        return self._abandoned or self._monitor.heard_of_failure(self._member.rank)

    def _give_up(self) -> None:
        """Another rank failed, or this one hangs: end it, so that torchrun ends them all."""
        text = str(self._monitor.failure)
        print(f"blockstep: {text}", file=sys.stderr, flush=True)
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            # The handler writes the traceback of what is being handled, not that of its argument.
            get_error_handler().record_exception(error)
        self._monitor.close(None)
        os._exit(1)
