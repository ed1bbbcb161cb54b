"""Whether wandb has credentials here; nobody is ever asked for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .refusal import one_line

__all__ = ["LoginError", "logged_in", "online"]


class LoginError(RuntimeError):
    """The credentials are of no use; the text says why."""


@contextmanager
def online() -> Iterator[None]:
    """Let wandb be online and silent for a while, whatever its variables say."""
    names = {"WANDB_MODE": "online", "WANDB_SILENT": "true"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def logged_in(wandb: Any, *, verify: bool = False) -> bool:
    """Return whether wandb has credentials.

    Args:
        wandb: The module.
        verify: Ask its server whether they are good.

    Raises:
        LoginError: They are of the wrong form; with ``verify``, the server refuses them or cannot
            be reached.
    """
    try:
        with online():
            return bool(wandb.login(prompt=False, verify=verify))
    except wandb.errors.Error as error:
        raise LoginError(one_line(str(error), 300).rstrip(".")) from error
