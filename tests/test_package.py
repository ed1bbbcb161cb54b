"""The package as a whole: what imports what, what is public, and what the wheel contains."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import blockstep
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("pipeline", "models", "search", "launch")
ALLOWED = {
    "pipeline": {"pipeline"},
    "models": {"models"},
    "search": {"search", "pipeline", "models"},
    "launch": set(ROOMS),
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the absolute name of everything a file imports."""
    package = ("blockstep", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    """launch -> search -> {pipeline, models}; no room imports one that stands before it."""
    room = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "blockstep" and len(parts) > 1 and parts[1] in ROOMS:
            assert parts[1] in ALLOWED[room], f"{path} imports {name}"


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=str)
def test_nothing_imports_torchvision(path: Path) -> None:
    """torchvision's wheel does not import beside a CPU build of torch; nothing may need it."""
    assert not any(name.split(".")[0] in ("torchvision", "torchaudio") for name in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_is_public(path: Path) -> None:
    """Every module has a docstring, and an __all__ unless it only describes its package."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    assigned = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in assigned or len(tree.body) == 1, path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    """wandb, matplotlib, scikit-learn, PIL and pynvml are not imported at the top of a file."""
    tree = ast.parse(path.read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    heavy = {"wandb", "matplotlib", "sklearn", "PIL", "pynvml", "torchmetrics"}
    assert not heavy & {name.split(".")[0] for name in names}


def test_public_names_exist() -> None:
    """Every name in blockstep.__all__ can be had, and nothing else is promised."""
    for name in blockstep.__all__:
        assert getattr(blockstep, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        blockstep.trian  # noqa: B018


def test_importing_the_package_is_silent_and_light() -> None:
    """``import blockstep`` prints nothing and does not import torch."""
    code = "import sys, blockstep; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_wheel_contains_every_module_and_file(tmp_path: Path) -> None:
    """An unlisted package or data file would be silently missing from an installation."""
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    kinds = (".py", ".yaml", ".css", ".js", ".typed")
    wanted = {
        f"blockstep/{name}"
        for name in listed
        if name.endswith(kinds) and name.split("/")[0] in (*ROOMS, "__init__.py", "py.typed")
    }
    assert wanted <= packed, sorted(wanted - packed)
    assert not any(name.startswith(("models/", "search/", "tests/")) for name in packed)
