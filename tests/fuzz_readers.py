"""A coverage-guided fuzzer on everything that reads what others wrote.

    pip install atheris
    python tests/fuzz_readers.py header                 for a minute
    python tests/fuzz_readers.py all --seconds 300      each target for five minutes

A reader must return or raise its own error; another exception, a hang (10 s), or more than 2 GiB
of memory is a finding, and the input is kept. Targets begin with whole files that our own writers
(or the tests' writers of published formats) made, and with nothing.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECONDS, HANG_SECONDS, MEBIBYTES, LONGEST = 60, 10, 2048, 1 << 14


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        read: Reads them; raises only ``refusals``.
        refusals: Its own errors.
        examples: What it reads without one.
    """

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    examples: Sequence[bytes]


def header() -> Target:
    """The header of a message."""
    import torch
    from blockstep.pipeline.message import HEADER_BYTES, Header, Kind, Message, MessageError

    message = Message(Kind.BATCH, 7, (torch.ones(2, 3, 4, 4), torch.arange(2)), "text")
    good = Header.of(message).encode()
    # The checksum would hide everything behind it: it is made right.
    return Target(
        lambda data: Header.decode(_sealed(data[: HEADER_BYTES - 4].ljust(HEADER_BYTES - 4))),
        (MessageError,),
        [good],
    )


def _sealed(body: bytes) -> bytes:
    import zlib

    return body + struct.pack("<I", zlib.crc32(body))


def idx() -> Target:
    """MNIST's arrays."""
    from blockstep.launch.data.error import DataError
    from blockstep.launch.data.idx import read_idx

    good = struct.pack(">HBBII", 0, 8, 2, 2, 3) + bytes(6)
    return Target(_by_file(read_idx), (DataError,), [good, gzip.compress(good)])


def pickled() -> Target:
    """The pickles inside CIFAR's archives."""
    from blockstep.launch.data.error import DataError
    from blockstep.launch.data.unpickler import read_pickle

    batch = {b"data": np.zeros((2, 12), np.uint8), b"labels": [1, 2]}
    examples = [pickle.dumps(batch, protocol) for protocol in (2, 5)]
    return Target(lambda data: read_pickle(data, source="fuzz"), (DataError,), examples)


def archive() -> Target:
    """Compressed archives; the fuzzer changes what is compressed."""
    from blockstep.launch.data.archive import read_members
    from blockstep.launch.data.error import DataError

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        info = tarfile.TarInfo("folder/file")
        info.size = 3
        made.addfile(info, io.BytesIO(b"abc"))

    def read(path: Path) -> object:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
        return read_members(path, ["folder/file"], most_bytes=1 << 20)

    return Target(_by_file(read), (DataError,), [buffer.getvalue()])


def picture() -> Target:
    """Pictures of a folder."""
    from blockstep.launch.data.error import DataError
    from blockstep.launch.data.picture import decode_bytes
    from PIL import Image

    examples = []
    for kind in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, kind)
        examples.append(buffer.getvalue())
    return Target(lambda data: decode_bytes(data, source="fuzz"), (DataError,), examples)


def decoupling() -> Target:
    """Decouplings."""
    from blockstep.search import Decoupling, DecouplingError, published

    made = published("resnet50", 4)
    return Target(_by_file(Decoupling.load), (DecouplingError,), [_saved(made.save)])


def profile() -> Target:
    """Saved times."""
    from blockstep.search import Profile, ProfileError

    made = Profile(
        network="net", layers=2, batch_size=32, device="cpu", threads=1, heads=("aux1",),
        forward=(0.5, 0.25), inner=(1.0, 2.0), entry=(8.0, 16.0), update=(64.0, 128.0),
        head_seconds=((0.5,),), head_update=((0.5,),), classifier_seconds=1.0,
        classifier_update=1.0, boundary_bytes=(1024, 40), parameters=(10, 20),
        classifier_parameters=40,
    )  # fmt: skip
    return Target(_by_file(Profile.load), (ProfileError,), [_saved(made.save)])


def sharing() -> Target:
    """Learned sharings of SuperWeight networks."""
    from blockstep.models import make_network
    from blockstep.models.superweight import depth_bins, uses_of
    from blockstep.search.sharing.file import SharingError, SharingFile

    name = "wrn16-4"
    uses = tuple(uses_of([make_network(name, classes=2, width=0.25).module]))
    made = SharingFile((name,), uses, depth_bins(uses), tau=0.1)
    return Target(_by_file(SharingFile.load), (SharingError,), [_saved(made.save)])


def psi() -> Target:
    """Learned hyperparameters."""
    from blockstep.search.psifile import PsiError, load_psi, save_psi

    made = {"affine": {"rotation": 0.5, "scale_x": [0.25, 1.5]}}
    return Target(_by_file(load_psi), (PsiError,), [_saved(lambda path: save_psi(path, made))])


def config() -> Target:
    """Configurations of runs."""
    from blockstep.launch.config import TrainConfig
    from blockstep.launch.configfile import config_from_yaml, config_to_yaml
    from blockstep.launch.refusal import ConfigError

    def read(data: bytes) -> object:
        return config_from_yaml(data.decode(errors="replace"), "train")

    return Target(read, (ConfigError,), [config_to_yaml(TrainConfig()).encode()])


def manifest() -> Target:
    """Manifests of checkpoints."""
    from blockstep.pipeline.checkpoint import CheckpointError, Checkpoints

    shard = {"name": "stage-1.pt", "bytes": 3, "sha256": "0" * 64}
    good = {"format": 1, "step": 3, "facts": {"blocks": 2}, "shards": [shard]}

    def read(path: Path) -> object:
        path.rename(path.with_name("manifest.json"))
        return Checkpoints(path.parent).read(path.parent)

    return Target(_by_file(read), (CheckpointError,), [json.dumps(good).encode()])


TARGETS: dict[str, Callable[[], Target]] = {
    make.__name__: make
    for make in (
        header, idx, pickled, archive, picture, decoupling, profile, sharing, psi, config,
        manifest,
    )
}  # fmt: skip


def _by_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a reader of bytes, from a reader of files."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def from_bytes(data: bytes) -> object:
        path = folder / "file"
        path.write_bytes(data)
        return read(path)

    return from_bytes


def _saved(save: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def fuzz(name: str, options: Sequence[str]) -> None:
    """Fuzz one target in this process; it does not return."""
    # Not among the development tools: it is installed for this alone.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["blockstep"]):
        target = TARGETS[name]()

    def once(data: bytes) -> None:
        try:
            target.read(data)
        except target.refusals:
            return

    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, example in enumerate(target.examples):
        target.read(example)
        (corpus / f"example-{number}").write_bytes(example)
    atheris.Setup([sys.argv[0], str(corpus), *options], once)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the targets that are named, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--here", action="store_true", help="in this process")
    given = parser.parse_args()
    if given.here:
        limits = [f"-max_total_time={given.seconds}", f"-timeout={HANG_SECONDS}"]
        fuzz(given.target, [*limits, f"-rss_limit_mb={MEBIBYTES}", f"-max_len={LONGEST}"])
        return
    found = []
    for name in TARGETS if given.target == "all" else [given.target]:
        command = [sys.executable, __file__, name, "--here", "--seconds", str(given.seconds)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        last = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
        print(f"{name}: {last[-1] if last else 'no end'}, status {done.returncode}", flush=True)
        if done.returncode:
            found.append(name)
            print(done.stderr[-4000:], done.stdout[-4000:])
    print(f"findings: {', '.join(found) or 'none'}")


if __name__ == "__main__":
    main()
