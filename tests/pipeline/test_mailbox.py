"""Reports on their way to whoever watches the run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch.distributed as dist
from blockstep.pipeline.mailbox import LocalMailbox, StoreMailbox, StoreReader

from tests.pipeline.parts import in_threads, serve


@pytest.fixture(params=["HashStore", "TCPStore", "PrefixStore"])
def store(request: pytest.FixtureRequest) -> Iterator[dist.Store]:
    """The kinds of store that a run may use."""
    if request.param == "HashStore":
        yield dist.HashStore()
        return
    server = serve()
    yield server if request.param == "TCPStore" else dist.PrefixStore("run/0", server)


def test_reports_arrive_once_and_in_the_order_of_each_rank(store: dist.Store) -> None:
    """Each rank's reports come in their order, none twice, ranks one after the other."""
    posts = [StoreMailbox(store, rank) for rank in range(2)]
    reader = StoreReader(store, 2)
    assert reader.take() == []
    posts[1].post({"n": 1})
    posts[0].post({"n": 2})
    posts[1].post({"n": 3})
    assert [report["n"] for report in reader.take()] == [2, 1, 3]
    assert reader.take() == []
    posts[0].post({"n": 4})
    assert reader.take() == [{"n": 4}]


def test_the_store_does_not_grow(store: dist.Store) -> None:
    """A report that was taken leaves no key behind."""
    post, reader = StoreMailbox(store, 0), StoreReader(store, 1)
    post.post({"n": 0})
    reader.take()
    before = store.num_keys()
    for number in range(50):
        post.post({"n": number})
        assert store.num_keys() == before + 1
        assert reader.take() == [{"n": number}]
    assert store.num_keys() == before


def test_json_survives(store: dist.Store) -> None:
    """Nested JSON values, text beyond ASCII and long texts arrive as they were posted."""
    report = {"a": [1, 2.5, None, True], "b": {"c": "Prüfung \N{SNOWMAN}"}, "long": "x" * 300_000}
    StoreMailbox(store, 0).post(report)
    assert StoreReader(store, 1).take() == [report]


def test_a_report_that_is_not_json_is_refused_where_it_is_made() -> None:
    """A tensor in a report is the poster's error, not the reader's."""
    with pytest.raises(TypeError):
        StoreMailbox(dist.HashStore(), 0).post({"object": object()})


def test_threads_of_a_rank_share_its_mailbox() -> None:
    """Reports of several threads are all taken, and each thread's stay in order."""
    store = dist.HashStore()
    post, reader = StoreMailbox(store, 0), StoreReader(store, 1)

    def work(name: int) -> None:
        for number in range(100):
            post.post({"thread": name, "n": number})

    in_threads(lambda: work(0), lambda: work(1), lambda: work(2))
    taken = reader.take()
    for name in range(3):
        assert [each["n"] for each in taken if each["thread"] == name] == list(range(100))


def test_ranks_may_post_from_other_processes() -> None:
    """A reader finds what another client of the server has set under the documented keys."""
    server = serve()
    client = dist.TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
    client.set("report/1/1", json.dumps({"n": 1}))
    assert StoreReader(server, 2).take() == [{"n": 1}]


def test_a_local_mailbox_is_first_in_first_out() -> None:
    """Reports within a process come in order and once."""
    mailbox = LocalMailbox()
    in_threads(*[lambda name=name: mailbox.post({"n": name}) for name in range(5)])
    assert sorted(report["n"] for report in mailbox.take()) == list(range(5))
    for number in range(3):
        mailbox.post({"n": number})
    assert [report["n"] for report in mailbox.take()] == [0, 1, 2]
    assert mailbox.take() == []
