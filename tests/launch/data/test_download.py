"""Tests of `blockstep.launch.data.download` and `blockstep.launch.data.place`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.config import DataConfig
from blockstep.launch.data import DataError, load_data
from blockstep.launch.data.download import RemoteFile, download
from blockstep.launch.data.place import Source, obtain

CONTENT = bytes(range(256)) * 2000


class Handler(BaseHTTPRequestHandler):
    """A server with one file, and one that breaks off."""

    def do_GET(self) -> None:
        """Answers."""
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/broken" else CONTENT)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def remote(url: str, *, size: int = len(CONTENT), sha256: str | None = None) -> RemoteFile:
    """The file behind an address, with its true size and checksum unless told otherwise."""
    return RemoteFile("file.bin", url, size, sha256 or hashlib.sha256(CONTENT).hexdigest())


def test_a_file_is_fetched_and_kept(server: str, tmp_path: Path):
    """Into a new folder, whole, readable, without anything left beside it."""
    path = download(remote(f"{server}/file"), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize(
    ("path", "size", "sha256", "message"),
    [
        ("file", len(CONTENT), "0" * 64, "expected the SHA-256 checksum 000.*found [1-9a-f]"),
        ("file", 1000, None, "expected 1,000 bytes, found more"),
        ("file", len(CONTENT) + 1, None, "expected 512,001 bytes, found 512,000"),
        ("broken", len(CONTENT), None, "(expected 512,000 bytes, found 1,000|IncompleteRead)"),
        ("missing", len(CONTENT), None, "the download failed: Not Found"),
    ],
)
def test_wrong_files_are_not_kept(
    server: str, tmp_path: Path, path: str, size: int, sha256: str | None, message: str
):
    """Checksum, size and the server's errors; the folder stays empty."""
    with pytest.raises(DataError, match=message):
        download(remote(f"{server}/{path}", size=size, sha256=sha256), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_reason_is_given(tmp_path: Path):
    """A name that nobody serves, and a folder that cannot be written."""
    with pytest.raises(DataError, match=r"nowhere.invalid/x: the download failed: "):
        download(remote("http://nowhere.invalid/x"), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"the download failed: .*Not a directory"):
        download(remote("http://nowhere.invalid/x"), tmp_path / "file" / "folder")


def recognise(folder: Path) -> Path | None:
    """The file, if it is there."""
    path = folder / "file.bin"
    return path if path.exists() else None


def source(url: str) -> Source[Path]:
    """A data set of one file."""
    return Source("example", ("example", "Example/raw"), (remote(url),), "file.bin", recognise)


@pytest.mark.parametrize("place", ["root", "root/example", "root/Example/raw", "system/example"])
def test_files_are_found_where_they_usually_are(no_usual_places: Path, tmp_path: Path, place: str):
    """In data.root and its subfolders, and in the system's folder; nothing is downloaded."""
    path = tmp_path / place / "file.bin"
    path.parent.mkdir(parents=True)
    path.touch()
    config = DataConfig(root=str(tmp_path / "root"))
    assert obtain(source("http://nowhere.invalid/x"), config) == path


def test_what_is_not_found_is_downloaded_once(server: str, no_usual_places: Path, tmp_path: Path):
    """Into the cache, or into data.root where it is given."""
    found = obtain(source(f"{server}/file"), DataConfig())
    assert found == no_usual_places / "example" / "file.bin"
    again = obtain(source("http://nowhere.invalid/x"), DataConfig(download=False))
    assert again == found
    found.unlink()
    config = DataConfig(root=str(tmp_path / "mine"))
    assert obtain(source(f"{server}/file"), config) == tmp_path / "mine" / "file.bin"


@pytest.mark.parametrize(
    ("download", "reason"),
    [(False, "because data.download=false"), (True, "could not be downloaded: http://nowhere")],
)
def test_the_error_says_which_files_to_put_where(
    no_usual_places: Path, tmp_path: Path, download: bool, reason: str
):
    """Every place that was searched, why there was no download, and the files."""
    config = DataConfig(root=str(tmp_path / "root"), download=download)
    with pytest.raises(DataError) as caught:
        obtain(source("http://nowhere.invalid/x"), config)
    message = str(caught.value)
    assert "data=example" in message
    assert reason in message
    assert "Put file.bin into one of these folders" in message
    for place in ("root", "root/example", "system/example", "cache/blockstep/Example/raw"):
        assert f"  {tmp_path / place}\n" in message


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]),
        ("fashion_mnist", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]),
        ("cifar10", ["cifar-10-python.tar.gz", "170,498,071 bytes", "cifar-10-batches-py"]),
        ("cifar100", ["cifar-100-python.tar.gz", "https://www.cs.toronto.edu/~kriz/"]),
        ("tiny_imagenet", ["tiny-imagenet-200.zip", "http://cs231n.stanford.edu/"]),
        ("imagenet", ["train/WNID/*.JPEG", "val/WNID/*.JPEG", "https://image-net.org"]),
    ],
)
def test_every_data_set_says_what_it_needs(
    no_usual_places: Path, cpu: Any, name: str, files: list[str]
):
    """Where nothing is found and nothing may be downloaded."""
    with pytest.raises(DataError, match=f"data={name}: its files were not found") as caught:
        load_data(DataConfig(name=name, download=False), seed=0, device=cpu)
    assert all(file in str(caught.value) for file in files)
