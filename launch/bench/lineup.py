"""What is compared: from the words of ``methods=[...]`` to the words of trainings.

    sedona                              ->  method=sedona blocks=2 ...
    sedona decoupling=sedona/resnet50   ->  the same, with further keys
    ddp                                 ->  method=backprop pipeline.replicas=[2] ...
    gpipe                               ->  method=backprop runtime=gpipe blocks=2 ...

Every entry is a training of the same network on the same data, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..refusal import ConfigError, closest

__all__ = ["DEFAULT", "ENTRIES", "Entry", "find_entry", "words_of"]


@dataclass(frozen=True)
class Entry:
    """Something that can be compared.

    Attributes:
        summary: What it is, in words.
        words: Its keys; ``{blocks}`` stands for the number of blocks, which is also that of
            devices, and ``{twice}`` for two on each.
        devices: Whether it uses as many devices as there are blocks; otherwise it uses one.
        heads: Whether ``heads``, ``decoupling`` and ``cuts`` mean something for it.
        loop: Whether it is a plain PyTorch loop outside of the runtime.
        parts: Whether ``pipeline.microbatches`` means something for it.
        default: Whether it is compared where no methods are named.
    """

    summary: str
    words: tuple[str, ...]
    devices: bool = True
    heads: bool = True
    loop: bool = False
    parts: bool = False
    default: bool = True


ENTRIES: Mapping[str, Entry] = {
    "backprop": Entry(
        "backpropagation on one device, a plain PyTorch loop",
        ("method=backprop",),
        devices=False,
        heads=False,
        loop=True,
    ),
    "pipeline-1": Entry(
        "backpropagation on one device inside the runtime: what the runtime itself costs",
        ("method=backprop",),
        devices=False,
        heads=False,
    ),
    "ddp": Entry(
        "backpropagation, data parallel over the devices (torch's DDP)",
        ("method=backprop", "pipeline.replicas=[{blocks}]"),
        heads=False,
    ),
    "gpipe": Entry(
        "backpropagation in micro-batches, all forward, then all back (torch's pipelining)",
        ("method=backprop", "runtime=gpipe", "blocks={blocks}"),
        heads=False,
        parts=True,
    ),
    "1f1b": Entry(
        "the same, one forward and one back in turn",
        ("method=backprop", "runtime=1f1b", "blocks={blocks}"),
        heads=False,
        parts=True,
    ),
    "interleaved_1f1b": Entry(
        "the same, with two blocks on each device; not for networks of few layers",
        ("method=backprop", "runtime=interleaved_1f1b", "blocks={twice}"),
        heads=False,
        parts=True,
        default=False,
    ),
    "features_replay": Entry(
        "errors one step old, activations replayed",
        ("method=features_replay", "blocks={blocks}"),
        heads=False,
    ),
    "ddg": Entry(
        "delayed gradients, weights stashed", ("method=ddg", "blocks={blocks}"), heads=False
    ),
    "decoupled": Entry("blocks with heads aux1", ("method=decoupled", "blocks={blocks}")),
    "sedona": Entry("the same, as SEDONA trains it", ("method=sedona", "blocks={blocks}")),
    "dgl": Entry("decoupled greedy learning", ("method=dgl", "blocks={blocks}")),
    "predsim": Entry(
        "a prediction and a similarity loss per block", ("method=predsim", "blocks={blocks}")
    ),
}

DEFAULT = tuple(name for name, entry in ENTRIES.items() if entry.default)


def find_entry(method: str) -> Entry:
    """Return the entry that the first word of ``method`` names.

    Raises:
        ConfigError: There is none.
    """
    name = method.split()[0] if method.split() else ""
    if name not in ENTRIES:
        known = ", ".join(ENTRIES)
        raise ConfigError(f"methods: {name!r} is none of {known}{closest(name, ENTRIES)}")
    return ENTRIES[name]


def words_of(method: str, blocks: int, common: Sequence[str]) -> list[str]:
    """Return the words of a training.

    Args:
        method: A name of ``ENTRIES``, with further keys behind it if that is wanted.
        blocks: Blocks, and devices.
        common: What all trainings have in common. Where a method has no heads, keys that say
            where to cut and with which heads are left out; so is the number of micro-batches where
            there are none.
    """
    entry = find_entry(method)
    shared = [word for word in common if entry.heads or not _about_heads(word)]
    shared = [word for word in shared if entry.parts or _key(word) != "pipeline.microbatches"]
    own = [word.format(blocks=blocks, twice=2 * blocks) for word in entry.words]
    return [*shared, *own, *method.split()[1:]]


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _about_heads(word: str) -> bool:
    key = _key(word)
    return key in ("heads", "decoupling", "cuts", "ablation") or key.startswith("heads.")
