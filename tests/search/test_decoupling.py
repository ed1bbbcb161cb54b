"""Decouplings: what they may hold, and what their files may do to a reader."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from blockstep.search import Decoupling, DecouplingError
from blockstep.search.decoupling import head_name
from blockstep.search.jsonfile import MAX_BYTES
from hypothesis import given
from hypothesis import strategies as st

HEAD = {"_target_": "package.Head", "width": 3, "layers": [1, 2]}
PLAIN = Decoupling("resnet50", 16, (4, 8), ("aux1", "aux4"))
FOUND = Decoupling(
    "MyNet",
    6,
    (2, 5),
    ("aux1", HEAD),
    alpha=((0.1, -0.1), (1e-300, 2.5)),
    beta=((0.5, 0.25, 0.125),),
    pool=("aux1", "aux4", HEAD),
    ranking=(2, 5, 1, 3, 4),
    margins=(0.5, 0.0, -1.25, 3.0),
    by_blocks={1: {"cuts": (), "heads": ()}, 2: {"cuts": (5,), "heads": (HEAD,)}},
)


def values(**changes: Any) -> dict[str, Any]:
    """Return the keys of a good file with changes; None removes a key."""
    good = {"format": 1, "network": "net", "layers": 6, "cuts": [2, 4], "heads": ["aux1", "aux2"]}
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def refusal(text: str) -> str:
    """Return why a text is refused."""
    with pytest.raises(DecouplingError) as refused:
        Decoupling.from_json(text)
    return str(refused.value)


# --- What it says ------------------------------------------------------------------------------


def test_blocks_lie_between_the_cuts():
    """Each block begins after a cut and ends with the next; together they are all layers."""
    assert PLAIN.blocks == 3
    assert PLAIN.bounds() == [(1, 4), (5, 8), (9, 16)]
    assert Decoupling("net", 1, (), ()).bounds() == [(1, 1)]


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(1, 60)))))
def test_bounds_cover_each_layer_once(layers_and_cuts: tuple[int, set[int]]):
    """Whatever the cuts, the blocks list the layers in order."""
    layers, chosen = layers_and_cuts
    cuts = tuple(sorted(cut for cut in chosen if cut < layers))
    bounds = Decoupling("net", layers, cuts, ("aux1",) * len(cuts)).bounds()
    listed = [layer for first, last in bounds for layer in range(first, last + 1)]
    assert listed == list(range(1, layers + 1))
    assert tuple(last for _, last in bounds[:-1]) == cuts


def test_other_numbers_of_blocks_come_from_the_search():
    """for_blocks returns itself, or the cuts and heads of by_blocks with all else as it was."""
    assert FOUND.for_blocks(3) is FOUND
    two = FOUND.for_blocks(2)
    assert (two.cuts, two.heads, two.blocks) == ((5,), (HEAD,), 2)
    assert (two.alpha, two.ranking, two.by_blocks) == (FOUND.alpha, FOUND.ranking, FOUND.by_blocks)
    assert two.for_blocks(1).bounds() == [(1, 6)]


def test_unknown_number_of_blocks_lists_the_known():
    """The error has the number that was asked for and all that there are."""
    with pytest.raises(DecouplingError, match=r"blocks=4, .*blocks=1, 2, 3;"):
        FOUND.for_blocks(4)
    with pytest.raises(DecouplingError, match=r"blocks=2, .*blocks=3;"):
        PLAIN.for_blocks(2)


def test_heads_can_be_replaced():
    """One head for all cuts, whether a name or a mapping, or one for each."""
    assert PLAIN.with_heads("linear").heads == ("linear", "linear")
    assert PLAIN.with_heads(HEAD).heads == (HEAD, HEAD)
    assert PLAIN.with_heads(["linear", HEAD]).heads == ("linear", HEAD)
    assert PLAIN.with_heads("linear").cuts == PLAIN.cuts
    with pytest.raises(DecouplingError, match="1 heads for 2 cuts"):
        PLAIN.with_heads(["linear"])


def test_another_network_is_refused():
    """The name and the number of layers must be those of the decoupling; both are shown."""
    PLAIN.check("resnet50", 16)
    with pytest.raises(DecouplingError, match="for 'resnet50', the network is 'resnet101'"):
        PLAIN.check("resnet101", 16)
    with pytest.raises(DecouplingError, match="with 16 layers, the network has 17"):
        PLAIN.check("resnet50", 17)


# --- What is impossible -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuts": [4, 2]}, r"cuts=\[4, 2\]: must be strictly increasing"),
        ({"cuts": [2, 2]}, r"cuts=\[2, 2\]: must be strictly increasing"),
        ({"cuts": [2, 6]}, "after layer 6, but 'net' has 6 layers"),
        ({"cuts": [0, 2]}, r"cuts\[0\]=0: must be an integer of at least 1"),
        ({"cuts": [True, 2]}, r"cuts\[0\]=True: must be an integer"),
        ({"cuts": [2, 4.0]}, r"cuts\[1\]=4.0: must be an integer"),
        ({"cuts": "24"}, "cuts='24': must be a list"),
        ({"cuts": [2]}, "2 heads for 1 cuts"),
        ({"heads": ["aux1"]}, "1 heads for 2 cuts"),
        ({"heads": ["aux1", ""]}, r"heads\[1\]='': must be the name of a head"),
        ({"heads": ["aux1", {"width": 2}]}, r"heads\[1\]={'width': 2}: must be .*_target_"),
        ({"heads": "aux1"}, "heads='aux1': must be a list"),
        ({"layers": 0}, "layers=0: must be an integer of at least 1"),
        ({"layers": "6"}, "layers='6': must be an integer"),
        ({"network": 5}, "network=5: must be a text"),
        ({"network": ""}, "network='': must be a text"),
        ({"ranking": [1, "2"]}, r"ranking\[1\]='2': must be an integer"),
        ({"alpha": [[0.5], 1]}, r"alpha\[1\]=1: must be a list"),
        ({"beta": [[0.5, None]]}, r"beta\[0\]\[1\]=None: must be a finite number"),
        ({"pool": "aux1"}, "pool='aux1': must be a list"),
        ({"pool": ["aux1", {"width": 2}]}, r"pool\[1\]={'width': 2}: must be .*_target_"),
        (
            {"beta": [[0.5, 0.25], [0.5]], "pool": ["aux1", "aux2"]},
            r"beta\[1\] has 1 values, but the pool has 2 heads",
        ),
        ({"margins": [10**400]}, r"margins\[0\]=1000.*: must be a finite number"),
        ({"by_blocks": [1]}, r"by_blocks=\[1\]: must be an object"),
        ({"by_blocks": {"two": {}}}, "by_blocks='two': must be keyed by numbers"),
        ({"by_blocks": {"02": {}}}, "by_blocks='02': must be keyed by numbers"),
        ({"by_blocks": {"2": {"cuts": [1]}}}, r"by_blocks\[2\]=.*keys cuts and heads"),
        ({"by_blocks": {"2": {"cuts": [], "heads": []}}}, r"by_blocks\[2\] has 0 cuts.*1 blocks"),
        (
            {"by_blocks": {"2": {"cuts": [9], "heads": ["aux1"]}}},
            r"by_blocks\[2\]: a cut after layer 9, but 'net' has 6 layers",
        ),
    ],
)
def test_impossible_values_are_named(changes: dict[str, Any], message: str):
    """A refusal has the key, the value and what would be right; in Python as in a file."""
    with pytest.raises(DecouplingError, match=message):
        Decoupling.from_json(json.dumps(values(**changes)))


def test_a_pool_needs_no_beta():
    """Either key may be there without the other; neither changes what is trained."""
    assert Decoupling("net", 2, (1,), ("aux1",), pool=("aux1", HEAD)).pool == ("aux1", HEAD)
    assert Decoupling("net", 2, (1,), ("aux1",), beta=((1.0, 2.0),)).pool is None


def test_heads_have_short_names():
    """A name is its own; of a class the arguments are told, for two may differ in nothing else."""
    assert head_name("aux1") == "aux1"
    assert head_name(HEAD) == "Head(width=3, layers=[1, 2])"
    assert head_name({"_target_": "Head"}) == "Head"


def test_a_head_that_no_file_can_hold_is_refused():
    """An object in a head's arguments would not survive the file, so it is refused at once."""
    for bad in (object(), float("nan"), {1, 2}):
        with pytest.raises(DecouplingError, match=r"heads\[0\]=.* cannot be written as JSON"):
            Decoupling("net", 2, (1,), ({"_target_": "package.Head", "bad": bad},))


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoupling", [PLAIN, FOUND, Decoupling("net", 1, (), ())])
def test_round_trip(decoupling: Decoupling, tmp_path: Path):
    """A file gives back what was written, and writing that again gives the same bytes."""
    path = tmp_path / "decoupling.json"
    decoupling.save(path)
    read = Decoupling.load(str(path))
    assert read == decoupling
    assert read.to_json() == decoupling.to_json() == path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["decoupling.json"]


def test_the_file_has_the_documented_keys():
    """Others read the file: its keys and types are those of the design."""
    assert json.loads(PLAIN.to_json()) == {
        "format": 1,
        "network": "resnet50",
        "layers": 16,
        "cuts": [4, 8],
        "heads": ["aux1", "aux4"],
    }
    found = json.loads(FOUND.to_json())
    assert found["by_blocks"]["2"] == {"cuts": [5], "heads": [HEAD]}
    assert found["alpha"] == [[0.1, -0.1], [1e-300, 2.5]]


def test_lists_and_tuples_are_the_same():
    """A search may pass lists; the decoupling is the one that its file will give."""
    lists = Decoupling(
        "net",
        6,
        [2, 4],  # pyright: ignore[reportArgumentType]
        ["aux1", {"_target_": "package.Head", "layers": (1, 2)}],  # pyright: ignore[reportArgumentType]
        margins=[1, 2],  # pyright: ignore[reportArgumentType]
    )
    assert lists == Decoupling.from_json(lists.to_json())
    assert lists.cuts == (2, 4)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Either the new file is there or the old one, and nothing else."""
    path = tmp_path / "decoupling.json"
    PLAIN.save(path)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        FOUND.save(path)
    assert Decoupling.load(path) == PLAIN
    assert [file.name for file in tmp_path.iterdir()] == ["decoupling.json"]


def test_a_file_that_no_reader_takes_is_not_written(tmp_path: Path):
    """More than a reader's limit is refused when it is written, not when it is needed."""
    large = Decoupling("net", 6, (), (), margins=(0.1234567890123,) * 60_000)
    with pytest.raises(DecouplingError, match="more than a reader takes"):
        large.save(tmp_path / "decoupling.json")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path: Path):
    """No file, or a folder in its place."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DecouplingError, match=rf"{path}: there is no such file"):
            Decoupling.load(path)
    with pytest.raises(DecouplingError):
        Decoupling.load("null\0byte")


def test_a_large_file_is_not_read(tmp_path: Path):
    """1 MiB is the limit; a sparse file of 1 TiB is refused as quickly."""
    path = tmp_path / "large.json"
    text = json.dumps(values())
    path.write_text(text + " " * (MAX_BYTES - len(text)))
    Decoupling.load(path)
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(DecouplingError, match=rf"{path}: it is larger than {MAX_BYTES} bytes"):
        Decoupling.load(path)
    os.truncate(path, 1 << 40)
    with pytest.raises(DecouplingError, match="larger than"):
        Decoupling.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a decoupling in JSON"),
        (b"{", "not a decoupling in JSON"),
        (b"\xff\xfe{}", "not a decoupling in JSON"),
        (b"[]", "holds \\[\\], not a JSON object"),
        (b"null", "holds None, not a JSON object"),
        (b"[" * 500_000, "not a decoupling in JSON"),
        (b'{"a":' * 100_000, "not a decoupling in JSON"),
        (b'{"format": ' + b"9" * 100_000 + b"}", "not a decoupling in JSON"),
        (b'{"format": 1, "layers": NaN}', "NaN is not a number"),
        (b'{"format": 1, "layers": 1e999}', "'1e999' is too large"),
        (b'{"format": 1, "cuts": [1], "cuts": [2]}', "'cuts' stands there more than once"),
    ],
)
def test_what_is_not_json_is_refused(content: bytes, message: str, tmp_path: Path):
    """Damaged, nested without end, or not an object: one kind of error, with the file's name."""
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DecouplingError, match=f"bad.json: .*{message}"):
        Decoupling.load(path)


def test_other_formats_are_refused_with_both_numbers():
    """A newer file asks for a newer blockstep; what is no number is shown."""
    assert "format 2, this version reads format 1; update" in refusal(json.dumps(values(format=2)))
    assert "format 0, this version reads format 1; write" in refusal(json.dumps(values(format=0)))
    for wrong in (True, "1", 1.0, [1]):
        assert f"it has format {wrong!r}, this" in refusal(json.dumps(values(format=wrong)))
    assert "it has no key format" in refusal(json.dumps(values(format=None)))


def test_unknown_and_missing_keys_are_named():
    """A misspelt key must not be passed over."""
    message = refusal(json.dumps(values(cutz=[1])))
    assert "unknown keys: 'cutz'; known are alpha, beta, by_blocks, cuts, heads" in message
    assert "lacks the keys 'cuts', 'heads'" in refusal(json.dumps(values(cuts=None, heads=None)))
    many = refusal(json.dumps(values(**{f"key{number}": 0 for number in range(1000)})))
    assert "and 995 more" in many
    assert len(many) < 500


# --- Whatever a file holds ------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
LAYERS = st.lists(st.integers(-1, 8), max_size=4) | JSON
SPECS = st.lists(st.sampled_from(["aux1", "linear", HEAD]) | JSON, max_size=4) | JSON
CHOICES = st.fixed_dictionaries({"cuts": LAYERS, "heads": SPECS}) | JSON
NEARLY = st.fixed_dictionaries(
    {
        "format": st.just(1) | JSON,
        "network": st.text(max_size=4) | JSON,
        "layers": st.integers(-1, 8) | JSON,
        "cuts": LAYERS,
        "heads": SPECS,
    },
    optional={
        "alpha": st.lists(LAYERS, max_size=3),
        "beta": st.lists(LAYERS, max_size=3),
        "pool": SPECS,
        "margins": LAYERS,
        "ranking": LAYERS,
        "by_blocks": st.dictionaries(st.sampled_from("01234x"), CHOICES, max_size=3) | JSON,
    },
)


def read_or_refused(text: str) -> None:
    """Read; what was read must survive another round, and a refusal must be short."""
    message = None
    decoupling = PLAIN
    try:
        decoupling = Decoupling.from_json(text)
    except DecouplingError as error:
        message = str(error)
    assert Decoupling.from_json(decoupling.to_json()) == decoupling
    assert message is None or len(message) < 1000


@given(JSON)
def test_any_json_is_read_or_refused(value: Any):
    """No JSON raises anything but DecouplingError."""
    read_or_refused(json.dumps(value))


@given(NEARLY)
def test_nearly_right_json_is_read_or_refused(value: dict[str, Any]):
    """No value of a known key raises anything but DecouplingError."""
    read_or_refused(json.dumps(value))


@given(st.text())
def test_any_text_is_read_or_refused(text: str):
    """No text raises anything but DecouplingError."""
    read_or_refused(text)


@given(st.data())
def test_any_decoupling_survives_its_file(data: st.DataObject):
    """Cuts, heads and learned numbers come back exactly."""
    layers = data.draw(st.integers(1, 30))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, layers - 1)), max_size=layers - 1)))
    names = st.sampled_from(["aux1", "aux4", "mlp_sr"]) | st.just(HEAD)
    heads = data.draw(st.lists(names, min_size=len(cuts), max_size=len(cuts)))
    margins = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
    decoupling = Decoupling("net", layers, tuple(cuts), tuple(heads), margins=tuple(margins))
    assert Decoupling.from_json(decoupling.to_json()) == decoupling
