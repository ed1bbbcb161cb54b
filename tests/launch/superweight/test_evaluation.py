"""Tests of `blockstep evaluate` and `export` of ensembles, without worker processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from blockstep.launch.compose import compose
from blockstep.launch.data import Data
from blockstep.launch.folder import RunFolder
from blockstep.launch.job import Objects
from blockstep.launch.refusal import ConfigError
from blockstep.launch.superweight.evaluation import evaluate_restored
from blockstep.launch.superweight.evaluation_pictures import write_evaluation_pictures
from blockstep.launch.superweight.export import export_members
from blockstep.launch.superweight.job import SHARED, SuperWeightJob, member_shard
from blockstep.launch.superweight.preparation import prepare
from blockstep.launch.superweight.rank import make_training
from blockstep.launch.superweight.restore import RestoredEnsemble, restore_ensemble
from blockstep.launch.superweight.source import EnsembleSource
from blockstep.models import make_network
from blockstep.search.sharing.training import EnsembleTraining

COMMON = (
    "data=digits", "data.train_examples=100", "train.steps=3", "train.batch_size=25",
    "train.threads=1", "superweight.similarity_batches=1", "ranks=1", "budget=null",
)  # fmt: skip
PAIR = "members=[{name: wrn10-1, width: 0.5},{name: wrn10-1, width: 0.5}]"


def begun(job: SuperWeightJob, data: Data) -> EnsembleTraining:
    """Make its training, at the first step, in this process."""
    source = EnsembleSource(data, batch_size=job.config.train.batch_size)
    return make_training(job, source, torch.device("cpu"))


def trained(folder: Path, *words: str) -> RunFolder:
    """Train three steps, and leave a checkpoint as a run does."""
    own = any(word.startswith("data._target_") for word in words)
    common = [word for word in COMMON if not (own and word == "data=digits")]
    config = compose("superweight", [*common, *words, f"runs={folder}", "name=one"])
    preparation = prepare("superweight", config, Objects())
    job = preparation.job
    training = begun(job, preparation.data)
    while not training.done:
        training.advance()
    checkpoints = job.folder.checkpoints
    shards = [checkpoints.write(training.step, SHARED, training.shared_state())]
    for member in training.kept_members():
        state = training.member_state(member)
        shards.append(checkpoints.write(training.step, member_shard(member), state))
    checkpoints.commit(training.step, job.facts, shards)
    return job.folder


def restored(folder: RunFolder) -> RestoredEnsemble:
    """Put it together again."""
    return restore_ensemble(folder, "last", device=torch.device("cpu"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two equal members with SuperWeights."""
    return trained(tmp_path_factory.mktemp("pair"), PAIR)


def test_equal_members_are_interpolated(pair: RunFolder, tmp_path: Path):
    """From one to the other, and a picture of it; other figures are those of the members."""
    found = evaluate_restored(restored(pair), "test", points=3, repeats=0)
    (line,) = found["interpolation"]
    assert line["members"] == [0, 1]
    assert [point["share"] for point in line["points"]] == [0, 0.5, 1]
    assert all(0 <= point["top1"] <= 1 for point in line["points"])
    assert found["anytime"]["seconds"] is None
    assert found["members"][0]["flops"] == found["members"][1]["flops"]
    assert [len(one["members"]) for one in found["anytime"]["flops"]["subsets"]] == [1, 1, 2]
    assert found["corruptions"] is None
    names = {path.name for path in write_evaluation_pictures(tmp_path, found)}
    assert names == {
        f"evaluation-test-{name}.svg"
        for name in ("members", "calibration", "diversity", "anytime-flops", "interpolation")
    }


def test_an_exported_member_says_what_the_ensemble_s_member_says(
    pair: RunFolder, capsys: pytest.CaptureFixture[str]
):
    """It loads into a plain network, without templates."""
    assert export_members([f"run={pair.path}"]) == 0
    assert "make_network('wrn10-1', classes=10, in_channels=1, size=8, width=0.5)" in (
        capsys.readouterr().out
    )
    ensemble = restored(pair)
    x = ensemble.data.example(7)[0]
    logits = ensemble.training.logits(lambda: [x])
    for member in range(2):
        network = make_network("wrn10-1", classes=10, in_channels=1, size=8, width=0.5).module
        state = torch.load(pair.path / f"member-{member + 1}.pt", weights_only=True)
        network.load_state_dict(state)
        with torch.no_grad():
            assert torch.allclose(network.eval()(x), logits[member], atol=1e-6)


def test_members_that_cannot_part_have_one_point(tmp_path: Path):
    """MIMO runs all members or none; its export is the whole."""
    folder = trained(tmp_path, PAIR, "method=mimo")
    found = evaluate_restored(restored(folder), "test", points=3, repeats=1)
    (only,) = found["anytime"]["seconds"]["subsets"]
    assert only["members"] == [0, 1]
    assert found["interpolation"] == []
    assert export_members([f"run={folder.path}"]) == 0
    assert (folder.path / "model.pt").is_file()


def test_files_of_corrupted_images_are_read(tmp_path: Path):
    """CIFAR-C's files, for images of their shape; a folder without any is refused."""
    folder = tmp_path / "corrupted"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.arange(10, dtype=np.uint8), 5_000))
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (50_000, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "contrast.npy", small)
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def make():\n"
        "    x = torch.arange(40 * 3072, dtype=torch.int64).remainder(251).to(torch.uint8)\n"
        "    x, y = x.view(40, 3, 32, 32), torch.arange(40) % 10\n"
        "    return {'train': (x, y), 'test': (x, y)}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        run = trained(
            tmp_path, "members=[{name: wrn10-1, width: 0.25}]", "method=single", "train.steps=1",
            "data._target_=own.make", "data.train_examples=null", "data.normalize=false",
            "evaluate.batch_size=2500",
        )  # fmt: skip
        one = restored(run)
        found = evaluate_restored(
            one, "test", points=0, repeats=0, corruptions=str(folder), severities=[2]
        )
        assert list(found["corruptions"]["kinds"]) == ["contrast"]
        assert found["corruptions"]["source"] == str(folder)
        assert found["corruptions"]["mean"]["top1"] == pytest.approx(0.1, abs=0.02)
        with pytest.raises(ConfigError, match=r"there is no file such as gaussian_noise\.npy"):
            evaluate_restored(one, "test", corruptions=str(tmp_path), points=0, repeats=0)


def test_a_checkpoint_of_other_members_is_refused(pair: RunFolder, tmp_path: Path):
    """Its weights are not theirs."""
    text = pair.config.read_text()
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    (other.path / "checkpoints").symlink_to(pair.path / "checkpoints")
    other.config.write_text(text.replace("width: 0.5", "width: 0.25"))
    with pytest.raises(ConfigError, match="does not fit the members of"):
        restored(other)
