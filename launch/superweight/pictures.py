"""The picture of what an ensemble shares, as a file."""

from __future__ import annotations

from ...search.sharing.file import SharingFile
from ..folder import RunFolder

__all__ = ["SHARING", "write_sharing_picture"]

SHARING = "sharing"
"""Name of the picture's file, without its ending."""


def write_sharing_picture(folder: RunFolder, file: SharingFile) -> None:
    """Write ``sharing.svg``: clusters by layer and member (the supplement's Figure 5)."""
    from ..report.sharing import sharing_picture

    folder.picture(SHARING).write_text(sharing_picture(file).file())
