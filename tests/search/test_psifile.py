"""psi.json: written, read, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockstep.search.psifile import PsiError, load_psi, psi_from_json, psi_to_json, save_psi

MASK = {"mask": [0.5, -1.25, 3.0]}


@pytest.mark.parametrize(
    "values",
    [
        MASK,
        {"affine": {"rotation": 3.1, "shear": 0.0}},
        {"affine_ranges": {"rotation": [-1.0, 1.0]}},
        {"layers": {"conv.weight": [[[[1.0]]]]}},
    ],
)
def test_what_is_written_is_read_back(values: dict, tmp_path: Path):
    """The file has one key, the kind."""
    save_psi(tmp_path / "psi.json", values)
    assert load_psi(tmp_path / "psi.json") == values
    assert psi_from_json(psi_to_json(values)) == values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a file of hyperparameters"),
        ("[1]", "not a JSON object"),
        ("{}", "it has 0 kinds"),
        ('{"mask": [1], "affine": {}}', "it has 2 kinds"),
        ('{"own": 1}', "unknown keys: 'own'"),
        ('{"mask": [1, "x"]}', r"mask\[1\]='x': must be a finite number"),
        ('{"mask": [NaN]}', "NaN is not a number"),
        ('{"mask": [1e999]}', "too large"),
        ('{"mask": [true]}', "finite number"),
        ('{"mask": [1], "mask": [2]}', "more than once"),
        ('{"affine": {"": 1}}', "not empty"),
        ('{"mask": ' + "[" * 9 + "1" + "]" * 9 + "}", "nested deeper than 6"),
        ('{"mask": ' + "[" * 99999, "not a file of hyperparameters"),
    ],
)
def test_other_texts_are_refused(text: str, told: str):
    """In words, whatever they are."""
    with pytest.raises(PsiError, match=told):
        psi_from_json(text)


def test_a_missing_file_is_named(tmp_path: Path):
    """With its path."""
    with pytest.raises(PsiError, match=r"nowhere\.json: there is no such file"):
        load_psi(tmp_path / "nowhere.json")
