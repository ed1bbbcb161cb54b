"""The template: one process that has imported PyTorch and forks the workers of every run.

    leader                                 template
      | start                                 | import torch, blockstep    (once: seconds)
      | -- order: environment, stdin, log --> | fork --> worker            (milliseconds)
      | <------------- its pid -------------- |            | reads its payload, takes part
      | <------ pid and status --------------- | <- SIGCHLD - ends
      | gone, socket closes                   | ends, and the kernel ends its workers

Importing takes each process seconds, and K workers would do it K times, side by side on the same
cores. The template has one thread and touches no device, so a fork of it is a fresh process. It
serves all runs of its leader: a sweep and a notebook wait for it once.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from .importing import uncollected

__all__ = ["LIMIT_BYTES", "main"]

LIMIT_BYTES = 1 << 20
"""Longest message between leader and template; an environment is far shorter."""

LOOK_SECONDS = 5.0
"""How often the template looks whether its leader lives, should the socket not tell."""

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2): the signal that a process gets when its parent ends."""


def main(descriptor: int) -> None:
    """Fork workers on the orders that arrive on a socket, until it closes.

    Args:
        descriptor: Of the socket.
    """
    leader = os.getppid()
    orders = socket.socket(fileno=descriptor)
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # Ctrl-C is the leader's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm_up()
    while os.getppid() == leader:
        ready, _, _ = select.select([orders, awake], [], [], LOOK_SECONDS)
        if awake in ready:
            os.read(awake, 4096)
            _tell_ends(orders)
        if orders in ready and not _follow(orders, (awake, wake)):
            return


def _warm_up() -> None:
    """Import what workers need."""
    with uncollected():
        # Optimizers import it at their first step; it takes as long as the rest of torch.
        import torch._dynamo  # noqa: F401

        from . import process  # noqa: F401
        from .program import PROGRAMS, find_program

        for command in PROGRAMS:
            find_program(command)
    # What a collection of a worker touched would no longer be shared with the others.
    gc.collect()
    gc.freeze()


def _tell_ends(orders: socket.socket) -> None:
    """Tell the leader of every worker that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(orders, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _follow(orders: socket.socket, own: tuple[int, int]) -> bool:
    """Fork one worker; False if the leader has gone."""
    text, descriptors, _, _ = socket.recv_fds(orders, LIMIT_BYTES, 2)
    if not text:
        return False
    template = os.getpid()
    pid = os.fork()
    if pid == 0:
        _end_with(template)
        _become_worker(orders, own, json.loads(text), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    _send(orders, {"pid": pid})
    return True


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, where the kernel can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _become_worker(
    orders: socket.socket, own: tuple[int, int], order: dict[str, Any], descriptors: list[int]
) -> NoReturn:
    """Leave everything of the template behind and run the worker's program."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
        orders.close()
        for end in own:
            os.close(end)
        os.setsid()
        stdin, log = descriptors
        for source, target in ((stdin, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for descriptor in descriptors:
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])

        from . import process

        status = process.main()
    except BaseException:
        traceback.print_exc()
    finally:
        # Threads that still wait inside a link must not keep the process.
        os._exit(status)


def _send(orders: socket.socket, answer: dict[str, int]) -> None:
    try:
        orders.send(json.dumps(answer).encode())
    except OSError:
        # The leader has gone; the loop sees that next.
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
