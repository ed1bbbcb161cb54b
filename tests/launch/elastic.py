"""torchrun whose processes need not import anything: forks of one that has.

    tests        agent, a fork        rank_proxy.py      thread of tests     rank, a fork
      | ---------> | torchrun's main    |                    |                   |
      |            | -- starts -------> | -- words, ... ---> | ----------------> | joins, trains
      |            |                    | <-- pid, status -- | <----- ends ----- |
      |            | <-- ends alike --- |

The agent is PyTorch's: it makes the environment of the ranks, follows and restarts them. Only what
it starts as a rank is a small program that has one forked. Each rank saves seconds of imports;
:func:`tests.launch.runs.torchrun_cold` leaves them as they are.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.fork import begin_fork

__all__ = ["agent", "rank_server"]

PROXY = Path(__file__).with_name("rank_proxy.py")


def agent(flags: Sequence[str], server: str, words: Sequence[str]) -> NoReturn:
    """Do what ``torchrun FLAGS -m blockstep WORDS`` does.

    Args:
        flags: Torchrun's.
        server: What :func:`rank_server` returned.
        words: Those of the command.
    """
    status = 1
    try:
        from torch.distributed import run

        run.main([*flags, "--no-python", sys.executable, "-I", "-S", str(PROXY), server, *words])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@functools.cache
def rank_server() -> str:
    """Start, once, what forks the ranks; return the path of its socket."""
    path = os.path.join(tempfile.mkdtemp(prefix="blockstep-ranks-"), "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=_serve, args=(listener,), name="ranks", daemon=True).start()
    return path


def _serve(listener: socket.socket) -> NoReturn:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_follow, args=(connection,), name="rank", daemon=True).start()


def _follow(connection: socket.socket) -> None:
    """Fork one rank and tell its end; a proxy that goes away takes its rank along."""
    with connection, connection.makefile("rw") as stream:
        wanted = json.loads(stream.readline())
        rank = begin_fork(
            _rank,
            wanted["words"],
            folder=Path(wanted["folder"]),
            log=Path(wanted["log"]),
            environment=wanted["environment"],
        )
        stream.write(f"{rank.pid}\n")
        stream.flush()
        connection.settimeout(0.0)
        while (status := rank.wait(0.05)) is None:
            if _gone(connection):
                rank.send_signal(signal.SIGKILL)
        connection.settimeout(None)
        try:
            stream.write(f"{status}\n")
            stream.flush()
        except BrokenPipeError:
            return


def _gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def _rank(words: Sequence[str]) -> NoReturn:
    """Do what ``python -m blockstep WORDS`` does."""
    status = 1
    try:
        sys.argv = ["blockstep", *words]
        from blockstep.launch.cli import main

        status = main(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
