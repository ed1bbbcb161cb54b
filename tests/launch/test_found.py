"""Retraining with hyperparameters that were found: what is made, kept, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.assembly import build_data, build_network, task_of
from blockstep.launch.compose import compose
from blockstep.launch.folder import RunFolder
from blockstep.launch.found import adopt_psi, keep_psi
from blockstep.launch.job import Objects
from blockstep.launch.refusal import ConfigError
from blockstep.models.hyperparameters import Augerino, Averaged
from blockstep.search.psifile import PsiError, save_psi

NAMES = ("translate_x", "translate_y", "rotation", "scale_x", "scale_y", "shear")
AFFINE = {"affine": dict.fromkeys(NAMES, 0.25)}
DIGITS = ("data=digits", "model=mnist_cnn", "model.width=0.2")


def network(path: Path, values: dict[str, Any], *words: str) -> Any:
    """Make the network that a training with these hyperparameters has."""
    save_psi(path / "psi.json", values)
    config = compose("train", [*words, f"psi={path}/psi.json"])
    task = task_of(build_data(config, Objects(), torch.device("cpu")))
    return build_network(config, Objects(), task)


def learned(made: Any) -> set[str]:
    return {name for name, one in made.module.named_parameters() if one.requires_grad}


def test_the_hyperparameters_stay_and_the_weights_learn(tmp_path: Path):
    """What was found requires no gradient; everything else does."""
    made = network(tmp_path, AFFINE, *DIGITS, "method=backprop")
    assert isinstance(made.module, Averaged)
    assert (made.module.samples, len(made.layers)) == (20, 1)
    assert torch.equal(made.module.get_parameter("change.ranges").detach(), torch.full((6,), 0.25))
    every = {name for name, _ in made.module.named_parameters()}
    assert every - learned(made) == {"change.ranges"}


def test_one_changed_copy_where_the_network_is_cut(tmp_path: Path):
    """The change belongs to the first layer, so blocks are as without it."""
    made = network(tmp_path, AFFINE, *DIGITS, "blocks=2")
    assert len(made.layers) == 4
    assert not any(one.requires_grad for one in made.layers[0][0].parameters())
    with pytest.raises(ConfigError, match="cannot be cut into blocks=2; give psi_samples=1"):
        network(tmp_path, AFFINE, *DIGITS, "blocks=2", "psi_samples=5")


def test_other_kinds_are_put_where_they_belong(tmp_path: Path):
    """Rates into the network's dropouts, widths into Augerino, layers into the network."""
    rates = {"dropout": {f"hidden.{n}.{k}": 0.25 for n, k in enumerate((3, 3, 3, 2))}}
    made = network(tmp_path, rates, *DIGITS, "model.dropout=0.5", "blocks=2")
    keeps = [one for name, one in made.module.named_parameters() if name.endswith("keep")]
    assert [round(one.sigmoid().item(), 4) for one in keeps] == [0.75] * 4
    widths = {
        "translate_x": 1,
        "translate_y": 1,
        "rotation": 6,
        "scale": 1,
        "stretch": 1,
        "shear": 1,
    }
    made = network(tmp_path, {"augerino": widths}, *DIGITS, "method=backprop", "psi_samples=3")
    assert isinstance(made.module.change, Augerino)
    assert made.module.change.widths[2].item() == pytest.approx(6, rel=1e-5)
    made = network(tmp_path, {"layers": {"classifier.bias": [0.5] * 10}}, *DIGITS, "blocks=2")
    assert torch.equal(made.module.classifier.bias.detach(), torch.full((10,), 0.5))
    assert "classifier.bias" not in learned(made)


@pytest.mark.parametrize(
    ("values", "words", "told"),
    [
        ({"mask": [1.0]}, (), r"mask has shape \(1,\), the network's has \(1, 8, 8\)"),
        ({"dropout": {"a": 0.1}}, ("model.dropout=0.1",), "dropout has"),
        ({"dropout": {"a": 0.1}}, ("model.dropout=0",), "rate=0.0 has no logit"),
        ({"affine": {"rotation": 1.0}}, ("method=backprop",), "it must have"),
        ({"mask": [1.0]}, ("psi_samples=2",), "has mask, which changes no images"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, values: dict[str, Any], words: tuple[str, ...], told: str
):
    """With the file, and what the network has."""
    with pytest.raises(ConfigError, match=told):
        network(tmp_path, values, *DIGITS, *words)


def test_a_missing_file_and_a_number_without_one_are_refused():
    """Each by its key."""
    with pytest.raises(ConfigError, match="psi_samples=2: is of what psi=FILE has"):
        compose("train", ["psi_samples=2"])
    config = compose("train", ["data=input_selection", "psi=nowhere.json"])
    task = task_of(build_data(config, Objects(), torch.device("cpu")))
    with pytest.raises(PsiError, match=r"nowhere\.json: there is no such file"):
        build_network(config, Objects(), task)


def test_a_run_keeps_a_copy_of_its_own(tmp_path: Path):
    """The first file may go; on a resume the run's own counts, and no other is taken."""
    save_psi(tmp_path / "psi.json", {"mask": [1.0]})
    folder = RunFolder(tmp_path / "run")
    folder.create()
    config = compose("train", ["data=input_selection", f"psi={tmp_path}/psi.json"])
    adopt_psi(config, folder)
    (tmp_path / "psi.json").unlink()
    assert config.psi == str(folder.psi)
    moved = RunFolder(folder.path.rename(tmp_path / "moved"))
    assert keep_psi(config, moved).psi == str(moved.psi)
    config.psi = "other.json"
    with pytest.raises(ConfigError, match="has its own, which cannot change"):
        keep_psi(config, moved)
