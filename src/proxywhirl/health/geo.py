"""Country and network of an address, from the user's own databases in the format of MaxMind.

Nothing is downloaded: which databases there are, and how fresh, is the user's choice. Needs the extra `geo`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from proxywhirl.errors import SettingsError

if TYPE_CHECKING:
    import maxminddb


@dataclass(frozen=True, slots=True)
class Location:
    """Where an address is: an ISO 3166-1 alpha-2 code, and the number of its autonomous system. None: not known."""

    country: str | None = None
    asn: int | None = None


class GeoDatabase:
    """One or more `.mmdb` files, such as one of countries or cities and one of networks (ASN).

    A file of its own can have both. The first that knows a fact is believed. May be used from several threads; open
    until `close`, or the end of a `with` block.

    Raises:
        SettingsError: A file cannot be read or is no such database, or the extra `geo` is not installed.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._readers: list[maxminddb.Reader] = []
        try:
            for path in paths:
                self._readers.append(_open(Path(path)))
        except SettingsError:
            self.close()
            raise

    def look_up(self, address: str) -> Location:
        """Return what the databases know of an IP address: O(1), microseconds."""
        country = asn = None
        for reader in self._readers:
            try:
                record: Any = reader.get(address)
            except ValueError:  # an IPv6 address in a database of IPv4
                continue
            if isinstance(record, dict):
                country = country or _country(record)
                asn = asn or _asn(record)
        return Location(country, asn)

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers:
            reader.close()
        self._readers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path) -> maxminddb.Reader:
    try:
        import maxminddb  # noqa: PLC0415  # an extra
    except ImportError as exc:
        raise SettingsError("reading .mmdb files needs the extra geo: pip install 'proxywhirl[geo]'") from exc
    try:
        return maxminddb.open_database(path)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it is no .mmdb database"
        raise SettingsError(f"{path} cannot be read: {reason}") from exc


def _country(record: dict[str, Any]) -> str | None:
    for name in ("country", "registered_country"):
        known = record.get(name)
        code = known.get("iso_code") if isinstance(known, dict) else known  # some databases give the code alone
        if isinstance(code, str) and len(code) == 2:  # noqa: PLR2004 - a code of ISO 3166-1 alpha-2
            return code.upper()
    code = record.get("country_code")
    return code.upper() if isinstance(code, str) and code else None


def _asn(record: dict[str, Any]) -> int | None:
    for name in ("autonomous_system_number", "asn"):
        number = record.get(name)
        if isinstance(number, str):
            number = number.upper().removeprefix("AS")
            number = int(number) if number.isdigit() else None
        if isinstance(number, int):
            return number
    return None
