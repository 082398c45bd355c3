"""Country and network from the user's databases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from proxywhirl.errors import SettingsError
from proxywhirl.health.geo import GeoDatabase, Location


def write(path: Path, records: dict[str, dict[str, Any]], version: int = 6) -> Path:
    """Write a database of networks."""
    writer = MMDBWriter(version, database_type="Test", ipv4_compatible=version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def test_two_databases_answer_together(tmp_path: Path) -> None:
    """One of countries and one of networks give both facts; what neither knows is None."""
    countries = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "de"}}})
    networks = write(tmp_path / "a.mmdb", {"203.0.0.0/8": {"autonomous_system_number": 64500}})
    with GeoDatabase([countries, str(networks)]) as geo:
        assert geo.look_up("203.0.113.9") == Location("DE", 64500)
        assert geo.look_up("203.1.1.1") == Location(None, 64500)
        assert geo.look_up("192.0.2.1") == Location()


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"registered_country": {"iso_code": "FR"}}, Location("FR")),
        ({"country_code": "NL", "asn": "AS64501"}, Location("NL", 64501)),
        ({"country": "PL", "asn": 64502}, Location("PL", 64502)),
        ({"country": {"names": {"en": "Nowhere"}}, "asn": "none"}, Location()),
    ],
)
def test_the_usual_shapes_of_records_are_read(tmp_path: Path, record: dict[str, Any], place: Location) -> None:
    """Vendors name the same facts differently."""
    with GeoDatabase([write(tmp_path / "d.mmdb", {"203.0.113.0/24": record})]) as geo:
        assert geo.look_up("203.0.113.9") == place


def test_an_ipv6_address_in_a_database_of_ipv4_is_unknown(tmp_path: Path) -> None:
    """It is no error: such a database knows nothing of it."""
    with GeoDatabase([write(tmp_path / "4.mmdb", {"203.0.113.0/24": {"asn": 1}}, version=4)]) as geo:
        assert geo.look_up("2001:db8::1") == Location()


def test_the_extra_is_asked_for_where_it_is_missing() -> None:
    """Without it the error says what to install."""
    program = (
        "import sys; sys.modules['maxminddb'] = None\n"
        "from proxywhirl.health.geo import GeoDatabase; GeoDatabase(['x.mmdb'])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("needs the extra geo: pip install 'proxywhirl[geo]'")


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    """A file that is missing or no database is an error that says which."""
    wrong = tmp_path / "wrong.mmdb"
    wrong.write_bytes(b"no database" * 100)
    with pytest.raises(SettingsError, match=r"wrong\.mmdb cannot be read: it is no \.mmdb database"):
        GeoDatabase([wrong])
    with pytest.raises(SettingsError, match=r"gone\.mmdb cannot be read: No such file"):
        GeoDatabase([tmp_path / "gone.mmdb"])
