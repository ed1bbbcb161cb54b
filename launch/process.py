"""The program of a worker process: it reads its payload on stdin and takes part in the run.

The payload is made by the parent. It is a line of JSON (where to import from) and a pickle by
value, so a network defined in a notebook cell or in an unguarded script arrives here without the
caller's main program being run again.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import IO

import cloudpickle

from ..pipeline.feed import StopRequest
from .membership import Membership
from .program import find_program

__all__ = ["main", "write_payload"]


def write_payload(stream: IO[bytes], job_text: str, objects: object) -> None:
    """Send a worker its job."""
    paths = {"path": [os.getcwd(), *sys.path]}
    stream.write(json.dumps(paths).encode() + b"\n")
    stream.write(cloudpickle.dumps((job_text, objects)))
    stream.close()


def main() -> int:
    """Take part in the run that stdin describes.

    Returns:
        The status of the process: 0, or 1 after an error.
    """
    stream = sys.stdin.buffer
    sys.path[:] = dict.fromkeys(json.loads(stream.readline())["path"])
    status = 0
    try:
        job_text, objects = cloudpickle.loads(stream.read())
        member = Membership.from_environment()
        program = find_program(json.loads(job_text)["command"])
        program.rank(program.job.from_json(job_text), objects, member, stop=StopRequest()).run()
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status
