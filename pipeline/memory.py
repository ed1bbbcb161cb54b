"""Keeping freed memory: what makes CPU training steps fast with glibc's allocator.

A training step allocates and frees the same large tensors again and again. By default glibc hands
each of them back to the kernel and asks for it anew, and the kernel clears every page. Here freed
memory stays with the process. Results do not change. For a ResNet-50 of quarter width at batch 128
a step took 1.44 s instead of 2.35 s in one thread, and the peak of resident memory was 1,684 MB
instead of 1,449 MB (one run each).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["give_back_freed_memory", "keep_freed_memory", "keeping_freed_memory"]

# Parameters of mallopt(3) and their defaults.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
DEFAULT_TRIM_THRESHOLD = DEFAULT_MMAP_THRESHOLD = 128 * 1024
DEFAULT_MMAP_MAX = 65536
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for good. Call it early.

    Returns:
        Whether the allocator understood; False where it is not glibc's.
    """
    libc = _glibc()
    if libc is None:
        return False
    # One arena: others are made of small heaps, which large tensors do not fit into.
    settings = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER))
    understood = [libc.mallopt(parameter, value) == 1 for parameter, value in settings]
    return all(understood)


def give_back_freed_memory() -> None:
    """Return what is free now to the kernel; what is freed later is kept as before.

    For after work with tensors of other sizes than the steps use, such as an evaluation: their
    memory lies between that of the steps and would stay with the process, unused.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keep freed memory for a while, in a process that is not ours; then give it back."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(MMAP_THRESHOLD, DEFAULT_MMAP_THRESHOLD)
        libc.mallopt(TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        gc.collect()
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.gnu_get_libc_version  # noqa: B018 - musl has no such function
    except (OSError, AttributeError):
        return None
    return libc
