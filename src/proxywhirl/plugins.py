"""What other packages offer by entry points: strategies, tiers, list formats, sources.

Users write the name of an entry point; its object is described by a page for each group: extending.md (tiers),
strategies.md (strategies), sources.md (sources and list formats). A built-in name cannot be taken over. The installed
packages are looked up each time: a look-up reads the metadata of every package, some milliseconds, and happens when a
home is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from proxywhirl.errors import SettingsError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

T = TypeVar("T")


def offered(group: str) -> EntryPoints:
    """Return the entry points of a group."""
    from importlib.metadata import entry_points  # noqa: PLC0415  # a pool in memory never loads it

    return entry_points(group=group)


def known_names(group: str, built_in: Iterable[str]) -> list[str]:
    """Return the built-in names and those of other packages, sorted."""
    return sorted({*built_in, *offered(group).names})


def find(kind: str, group: str, name: str, built_in: Mapping[str, T], *, also: Iterable[str] = ()) -> T:
    """Return the object of a name: the built-in one, else another package's.

    Args:
        kind: What it is, for messages.
        group: The entry points' group.
        name: What the user wrote.
        built_in: The objects that come with this package.
        also: Further names that the message lists.

    Raises:
        UnknownNameError: Nothing has that name; the message lists the known ones.
        SettingsError: The package that offers it cannot be loaded.
    """
    if name in built_in:
        return built_in[name]
    for entry_point in offered(group).select(name=name):
        try:
            found: T = entry_point.load()
        except (ImportError, AttributeError) as exc:
            raise SettingsError(f"{kind} {name!r} cannot be loaded from {entry_point.value}: {exc}") from exc
        return found
    raise UnknownNameError(kind, name, known_names(group, [*built_in, *also]))
