"""The program of a worker process: ``python -m blockstep.launch.process``, payload on stdin.

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

__all__ = ["main", "write_payload"]


def write_payload(stream: IO[bytes], job_text: str, objects: object) -> None:
    """Send a worker its job."""
    import cloudpickle

    paths = {"path": [os.getcwd(), *sys.path]}
    stream.write(json.dumps(paths).encode() + b"\n")
    stream.write(cloudpickle.dumps((job_text, objects)))
    stream.close()


def main() -> None:
    """Take part in the run that stdin describes; exit with 0, or with 1 after an error."""
    stream = sys.stdin.buffer
    known = set(sys.path)
    wanted = json.loads(stream.readline())["path"]
    sys.path.extend(path for path in dict.fromkeys(wanted) if path not in known)

    import cloudpickle

    from ..pipeline.feed import StopRequest
    from .membership import Membership
    from .program import find_program

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
    # Threads that still wait inside a link must not keep the process.
    os._exit(status)


if __name__ == "__main__":
    main()
