"""Tests of `blockstep.launch.report.command`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from blockstep.launch.cli import main
from blockstep.launch.refusal import ConfigError
from blockstep.launch.report import report_command, write_report

WriteRun = Callable[..., Path]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_run_is_written_into_its_folder(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """`blockstep report runs/A` makes runs/A/report.html and says where."""
    write_run("runs/A")
    assert main(["report", "runs/A"]) == 0
    assert (tmp_path / "runs/A/report.html").stat().st_size > 10_000
    assert capsys.readouterr().out == f"report: {Path('runs/A/report.html')}\n"


def test_several_runs_are_written_here(write_run: WriteRun, tmp_path: Path):
    """Patterns are expanded, files between the runs are passed over, seed-2 is before seed-10."""
    for seed in (10, 2):
        write_run(f"runs/seed-{seed}", seed=seed)
    (tmp_path / "runs/seed-notes.txt").write_text("not a run")
    assert report_command(["runs/seed-*"]) == 0
    text = (tmp_path / "comparison.html").read_text()
    assert "<h1>2 runs</h1>" in text
    assert 0 < text.find("<td>seed-2</td>") < text.find("<td>seed-10</td>")


def test_the_file_can_be_chosen(write_run: WriteRun, tmp_path: Path):
    """out=FILE, for one run and for several; run=DIR as in other commands."""
    write_run("a")
    write_run("b")
    assert report_command(["run=a", "out=one.html"]) == 0
    assert report_command(["a", "b", "out=two.html"]) == 0
    assert "<h1>a " in (tmp_path / "one.html").read_text()
    assert "<h1>2 runs</h1>" in (tmp_path / "two.html").read_text()


def test_a_run_given_twice_counts_once(write_run: WriteRun, tmp_path: Path):
    """A run is not compared with itself."""
    write_run("a")
    assert report_command(["a", "a", "a*"]) == 0
    assert (tmp_path / "a/report.html").exists()
    assert not (tmp_path / "comparison.html").exists()


def test_names_with_special_characters_are_runs(write_run: WriteRun, tmp_path: Path):
    """A folder called lr=0.1 or a[1] is what it is called."""
    write_run("lr=0.1")
    write_run("a[1]")
    assert report_command(["lr=0.1"]) == 0
    assert report_command(["a[1]"]) == 0
    assert (tmp_path / "lr=0.1/report.html").exists()
    assert (tmp_path / "a[1]/report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which run\\?.*blockstep report runs/NAME"),
        (["out=x.html"], "which run\\?"),
        (["nowhere"], "nowhere is not the folder of a run: there is no such folder"),
        (["."], "is not the folder of a run: it has no config.yaml"),
        (["no-*"], "'no-\\*' matches nothing"),
        (["emp*"], "'emp\\*' matches empty, but no folder of a run"),
        (["a", "output=x"], "unknown key output=x.*did you mean out\\?"),
        (["a", "out=missing/x.html"], "out=missing/x.html is in a folder that does not exist"),
        (["a", "out=empty"], "out=empty is a folder"),
    ],
)
def test_what_is_no_run_is_refused(
    write_run: WriteRun, tmp_path: Path, words: list[str], message: str
):
    """The message says what was given and what would be right."""
    write_run("a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        report_command(words)
    assert not (tmp_path / "comparison.html").exists()


def test_a_page_that_cannot_be_written_is_refused(write_run: WriteRun, tmp_path: Path):
    """With the file and the reason."""
    run = write_run("a")
    with pytest.raises(ConfigError, match=r"cannot write .*no/x\.html"):
        write_report([run], tmp_path / "no" / "x.html")
    with pytest.raises(ConfigError, match="which run"):
        write_report([], tmp_path / "x.html")
