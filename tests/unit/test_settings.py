"""Settings: where a value comes from, what is refused, and that no secret shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache.models import L2BackendType
from proxywhirl.errors import GatewayError, SettingsError
from proxywhirl.settings import Settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PROXYWHIRL_")]:
        monkeypatch.delenv(name)


def test_the_call_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value is the call's, else the environment's, else the file's, else its default."""
    assert Settings.load(tmp_path).gateway.port == 8899
    (tmp_path / "settings.toml").write_text('[gateway]\nport = 1\nhost = "::1"\n')
    assert Settings.load(tmp_path).gateway.port == 1
    monkeypatch.setenv("PROXYWHIRL_GATEWAY_PORT", "2")
    assert Settings.load(tmp_path).gateway.port == 2
    gateway = Settings.load(tmp_path, overrides={"gateway": {"port": 3}}).gateway
    assert (gateway.port, gateway.host) == (3, "::1")


def test_the_home_is_the_calls_or_the_environments_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is absolute, and `~` stands for the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Settings.load().home == tmp_path / "data" / "proxywhirl"
    monkeypatch.setenv("PROXYWHIRL_HOME", "~/elsewhere")
    assert Settings.load().home == tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    assert Settings.load("named").home == tmp_path / "named"


def test_loading_makes_nothing(tmp_path: Path) -> None:
    """A home that is not there is not made by reading its settings."""
    settings = Settings.load(tmp_path / "home")
    assert settings.cache.l3_database_path == str(tmp_path / "home" / "db" / "proxywhirl.db")
    assert not (tmp_path / "home").exists()


def test_tables_come_from_the_environment_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nested setting is one variable that holds JSON; the places of the home stay."""
    monkeypatch.setenv("PROXYWHIRL_CACHE_L1_CONFIG", '{"max_entries": 7}')
    monkeypatch.setenv("PROXYWHIRL_CACHE_PER_SOURCE_TTL", '{"shop": 60}')
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_BACKEND", "sqlite")
    cache = Settings.load(tmp_path).cache
    assert (cache.l1_config.max_entries, cache.per_source_ttl, cache.l2_backend) == (
        7,
        {"shop": 60},
        L2BackendType.SQLITE,
    )
    assert cache.key_file == str(tmp_path / "key")


def test_a_section_a_table_and_a_name_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more exact a variable is, the later it has its say; what says nothing leaves the file's value."""
    (tmp_path / "settings.toml").write_text('[cache.l1_config]\neviction_policy = "fifo"\n[pool]\nin_flight = 4\n')
    monkeypatch.setenv("PROXYWHIRL_CACHE", '{"default_ttl_seconds": 65, "l1_config": {"max_entries": 3}}')
    monkeypatch.setenv("proxywhirl_cache_default_ttl_seconds", "67")
    monkeypatch.setenv("PROXYWHIRL_CACHE_L1_CONFIG", '{"enabled": true}')
    monkeypatch.setenv("PROXYWHIRL_POOL", "null")
    monkeypatch.setenv("PROXYWHIRL_POOL_IN_FLIGHT", "")
    settings = Settings.load(tmp_path)
    assert settings.cache.default_ttl_seconds == 67
    assert (settings.cache.l1_config.eviction_policy, settings.cache.l1_config.max_entries) == ("fifo", 3)
    assert settings.pool.in_flight == 4


def test_in_memory_there_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L1 has no bound, the other tiers and the key are off, whatever the environment says."""
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path))
    monkeypatch.setenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", Fernet.generate_key().decode())
    settings = Settings.in_memory()
    assert settings.home is None
    assert settings.cache.encryption_key is None
    assert settings.cache.l1_config.max_entries is None
    assert not settings.cache.l2_config.enabled
    assert not settings.cache.l3_config.enabled


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PROXYWHIRL_GATEWAY_PORT", "-1", r"setting gateway\.port \(PROXYWHIRL_GATEWAY_PORT\)"),
        ("PROXYWHIRL_CACHE_L3_CONFIG", "{x", r"PROXYWHIRL_CACHE_L3_CONFIG: a table is written as JSON"),
        ("PROXYWHIRL_CACHE_L3_CONFIG", '{"x": 1}', r"setting cache\.l3_config\.x \(PROXYWHIRL_CACHE_L3_CONFIG\)"),
        ("PROXYWHIRL_CACHE_FAILURE_TRESHOLD", "3", r"there is none of this name; known: .*failure_threshold"),
        ("PROXYWHIRL_POOL_NAME", "x", r"there is none of this name; known: cooldown, .*strategy"),
        ("PROXYWHIRL_POOL", "x", r"a table is written as JSON"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """The error names the setting and the variable that holds it."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        Settings.in_memory()


def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    """What a call gives is checked like everything else."""
    with pytest.raises(SettingsError, match=r"setting gateway\.port"):
        Settings.load(tmp_path, overrides={"gateway": {"port": 70_000}})
    with pytest.raises(SettingsError, match=r"setting cache\.l1_config\.bound .*: Extra inputs"):
        Settings.load(tmp_path, overrides={"cache": {"l1_config": {"bound": 1}}})
    with pytest.raises(SettingsError, match=r"setting cache\.bound .*: there is none of this name"):
        Settings.load(tmp_path, overrides={"cache": {"bound": 1}})


@pytest.mark.parametrize("text", ["[cache]\nfailure_treshold = 3\n", "[cache.l3_config]\nmax_entires = 3\n"])
def test_a_file_with_a_name_that_is_unknown_is_refused(tmp_path: Path, text: str) -> None:
    """What a `CacheConfig` in Python only warns of would be believed to hold in a file."""
    (tmp_path / "settings.toml").write_text(text)
    name = text.split()[-3]
    with pytest.raises(SettingsError, match=rf"setting cache\..*{name} .*settings\.toml"):
        Settings.load(tmp_path)


def test_no_error_and_no_repr_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords and keys are in neither, right or wrong."""
    monkeypatch.setenv("PROXYWHIRL_GATEWAY_USERNAME", "carol")
    monkeypatch.setenv("PROXYWHIRL_GATEWAY_PASSWORD", "hunter2")
    assert "hunter2" not in repr(Settings.load(tmp_path))
    assert "hunter2" not in repr(Settings.load(tmp_path).gateway.options())
    (tmp_path / "settings.toml").write_text('[gateway]\npassword = ["s3cret"]\n')
    monkeypatch.delenv("PROXYWHIRL_GATEWAY_PASSWORD")
    with pytest.raises(SettingsError, match="password") as refused:
        Settings.load(tmp_path)
    assert "s3cret" not in str(refused.value)


def test_credentials_of_the_gateway_are_whole(tmp_path: Path) -> None:
    """Half a credential is refused with the name of the other half; a whole one reaches the gateway."""

    def options(**given: object) -> object:
        return Settings.load(tmp_path, overrides={"gateway": given}).gateway.options().credentials

    assert options() is None
    assert options(username="carol", password="x") == ("carol", "x")
    with pytest.raises(SettingsError, match="PROXYWHIRL_GATEWAY_PASSWORD"):
        options(username="carol")
    with pytest.raises(SettingsError, match="PROXYWHIRL_GATEWAY_USERNAME"):
        options(password="x")
    with pytest.raises(GatewayError, match="PROXYWHIRL_GATEWAY_USERNAME"):
        options(host="0.0.0.0")


def test_every_gateway_setting_reaches_the_gateway(tmp_path: Path) -> None:
    """No setting does nothing."""
    given = {
        "host": "localhost",
        "port": 1,
        "attempt_timeout": 2.0,
        "total_timeout": 3.0,
        "idle_timeout": 4.0,
        "header_timeout": 5.0,
        "max_connections": 6,
    }
    options = Settings.load(tmp_path, overrides={"gateway": dict(given)}).gateway.options()
    assert {name: getattr(options, name) for name in given} == given


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """The file of `upstream_ca_file` must be there and hold certificates."""
    (tmp_path / "no.pem").write_text("nothing")
    for name in ("no.pem", "missing.pem"):
        gateway = Settings.load(tmp_path, overrides={"gateway": {"upstream_ca_file": tmp_path / name}}).gateway
        with pytest.raises(SettingsError, match=name):
            gateway.options()


def test_a_user_without_a_home_directory_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `~` that stands for nothing is an error that names the variable to set."""
    with pytest.raises(SettingsError, match="PROXYWHIRL_HOME"):
        Settings.load("~nobody-of-this-name/home")


def test_an_empty_home_is_refused() -> None:
    """It is a variable that was not set, and not the default."""
    with pytest.raises(SettingsError, match="the home is an empty text"):
        Settings.load("")
