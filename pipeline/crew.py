"""All stages in one process: taking turns, or each in a thread of its own.

    in turns      1 2 3 1 2 3 1 2 3 ...       the sequential reference: one thread
    in threads    1 1 1 1 ...                 the in-process pipeline: links of any depth
                    2 2 2 2 ...
                      3 3 3 3 ...

Both use the workers and stages of the multi-process pipeline. Threads share torch's global random
generator, so with stock dropout only turns give the pipeline's numbers bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .link import Breakable, LinkClosedError
from .message import Kind
from .worker import Worker

__all__ = ["run_in_threads", "run_in_turns"]


def run_in_turns(workers: Sequence[Worker]) -> int:
    """Let each worker handle one message after the other, in the order of the stages.

    Args:
        workers: Linked by :class:`~blockstep.pipeline.link.LocalLink`, first stage first.

    Returns:
        The last step.
    """
    while True:
        message = [worker.turn() for worker in workers][-1]
        if message.kind == Kind.STOP:
            return message.step


def run_in_threads(workers: Sequence[Worker], links: Sequence[Breakable]) -> int:
    """Let each worker run in a thread of its own until a stop has passed.

    The first error wins: the links are abandoned, every thread ends, and it is raised here with its
    traceback.

    Args:
        workers: First stage first.
        links: All links that they may wait at.

    Returns:
        The last step.
    """
    errors: list[BaseException] = []
    steps = [0] * len(workers)
    lock = threading.Lock()

    def run(number: int) -> None:
        try:
            steps[number] = workers[number].run()
        except LinkClosedError as error:
            # A closed link is the echo of another stage's error, unless there is none.
            with lock:
                errors.append(error)
        except BaseException as error:
            with lock:
                errors.insert(0, error) if _only_echoes(errors) else errors.append(error)
        if errors:
            for link in links:
                link.abandon("a stage failed")

    threads = [
        threading.Thread(target=run, args=(number,), name=f"stage {number + 1}", daemon=True)
        for number in range(len(workers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return steps[-1]


def _only_echoes(errors: Sequence[BaseException]) -> bool:
    return all(isinstance(error, LinkClosedError) for error in errors)
