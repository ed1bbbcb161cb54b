"""Stands for a rank towards torchrun: ``python -I -S rank_proxy.py SOCKET WORDS``.

It has somebody else fork the rank, forwards signals to it and ends as it ends; see
:mod:`tests.launch.elastic`. It imports next to nothing, so it starts in a moment.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Be the rank, as far as torchrun can tell."""
    path, *words = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as stream:
        connection.connect(path)
        wanted = {
            "words": words,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "log": os.readlink("/proc/self/fd/1"),
        }
        stream.write(json.dumps(wanted) + "\n")
        stream.flush()
        pid = int(stream.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: os.kill(pid, number))
        status = int(stream.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
