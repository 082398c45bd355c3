"""`docs/architecture.md`: its rooms, layers and paths are those of the disk and of the import contracts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "proxywhirl"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def rooms() -> Iterator[tuple[str, str, list[str]]]:
    """Give each room of the page, whether it is pure or an edge, and its files."""
    for line in PAGE.partition("| room | is | answers | files |")[2].splitlines()[2:]:
        name, kind, _, files = [cell.strip() for cell in line.strip("|").split("|")]
        yield name.strip("`/"), kind, re.findall(r"`(\w+)`", files)


def test_the_rooms_are_those_of_the_disk() -> None:
    """Every folder has its line, which names every file in it."""
    said = {name: files for name, _, files in rooms()}
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        folder = str(path.parent.relative_to(SOURCE.parent)).removeprefix("proxywhirl/")
        found.setdefault(folder, []).extend([path.stem] if path.stem != "__init__" else [])
    assert said == found


def test_a_room_says_of_itself_what_it_is() -> None:
    """The plan of each room is the docstring of its package."""
    for name, _, _ in rooms():
        path = SOURCE.parent / name if name == "proxywhirl" else SOURCE / name
        assert (path / "__init__.py").read_text(encoding="utf-8").startswith('"""'), name


def test_who_is_pure_is_held_to_it() -> None:
    """A room that is called pure stands under the import contract, itself or with the room around it."""
    (contract,) = (one for one in CONTRACTS if one["name"].startswith("Pure rooms"))
    held = {name.removeprefix("proxywhirl.").replace(".", "/") for name in contract["source_modules"]}
    for name, kind, _ in rooms():
        around = {name, *(str(path) for path in Path(name).parents)}
        edges = {line.partition(" ")[0].rpartition(".")[0] for line in contract["ignore_imports"]}
        excepted = f"proxywhirl.{name.replace('/', '.')}" in edges
        assert (kind == "pure") == (bool(around & held) and not excepted), name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+(?:\.\w+|/)?)`", PAGE.partition("## The rooms")[0]))))
def test_a_path_that_is_named_is_there(path: str) -> None:
    """Every file and folder in the text exists."""
    assert (SOURCE / path).exists() or (SOURCE.parent / path).exists()


def test_the_drawing_has_the_layers_of_the_contract() -> None:
    """All layers are drawn, from the highest to the lowest."""
    (contract,) = (one for one in CONTRACTS if one["type"] == "layers")
    drawing = PAGE.partition("```\n")[2].partition("```")[0]
    places = [min(drawing.index(name) for name in layer.split(" | ")) for layer in contract["layers"]]
    assert places == sorted(places)
    names = {name for layer in contract["layers"] for name in layer.split(" | ")}
    assert all(re.search(rf"\b{name}\b", drawing) for name in names)
