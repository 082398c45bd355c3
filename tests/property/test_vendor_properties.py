"""Every wish that a vendor takes can be read back from its credential, and no two share one."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import SettingsError
from proxywhirl.vendors.grammar import Wish, duration, parse, read_duration, write
from proxywhirl.vendors.provider import Provider, providers
from proxywhirl.vendors.sessions import compile_credential, session_name, spelled_session

ACCOUNTS = {"netnut": "bob-res", "soax": "package-1"}
PLACEHOLDER = re.compile(r"\{(\w+)\}")
FIELDS = {
    "country": "[a-z]{2}",
    "COUNTRY": "[A-Z]{2}",
    "session": "[A-Za-z0-9_]+",
    "lifetime": "[0-9]+[smhd]?",
}

words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
places = words | st.lists(words, min_size=1, max_size=3).map(" ".join)
sessions = st.one_of(
    st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12),
    st.text("zx0123456789abcdef", min_size=8, max_size=8),
    st.integers(10_000, 10**9).map(str),
    st.text(string.ascii_letters + string.digits, min_size=8, max_size=8),
    st.text(min_size=1, max_size=20).filter(str.isprintable),
)
lifetimes = st.one_of(st.integers(1, 200_000), st.integers(1, 2000).map(lambda minutes: 60 * minutes))
wishes = st.builds(
    Wish,
    session=st.none() | sessions,
    country=st.none() | st.just("us") | st.text(string.ascii_lowercase, min_size=2, max_size=2),
    region=st.none() | places,
    city=st.none() | places,
    lifetime=st.none() | lifetimes,
)
accounts = st.text(min_size=1, max_size=30).filter(str.isprintable)


def read_back(vendor: Provider, username: str, password: str | None) -> list[Wish]:
    """Return every wish that a vendor's credential could have been compiled from."""
    account = ACCOUNTS.get(vendor.name, vendor.prefix + "bob")
    base, text = (account, username) if vendor.into == "username" else ("pw", password or "")
    assert text.startswith(base)
    written = text.removeprefix(base)
    found = []
    for place in {**dict.fromkeys([""], ""), **vendor.places}.items():
        for session in {"": "", **vendor.sessions}.items():
            fields = _match(vendor, place[1] + session[1], written)
            if fields is not None:
                found.append(_wish(vendor, fields))
    return found


def _match(vendor: Provider, template: str, written: str) -> dict[str, str] | None:
    seen: set[str] = set()
    word = "[a-z0-9]+"
    place = f"{word}(?:{re.escape(vendor.joint)}{word})*" if vendor.joint else word
    fields = {**FIELDS, "region": place, "city": place}

    def group(match: re.Match[str]) -> str:
        name = match[1]
        again = name in seen
        seen.add(name)
        return f"(?P={name})" if again else f"(?P<{name}>{fields[name]})"

    parts = PLACEHOLDER.split(template)
    pattern = "".join(
        re.escape(p) if n % 2 == 0 else PLACEHOLDER.sub(group, "{" + p + "}") for n, p in enumerate(parts)
    )
    match = re.fullmatch(pattern, written)
    return None if match is None else match.groupdict()


def _wish(vendor: Provider, fields: dict[str, str]) -> Wish:
    country = fields.get("country") or fields.get("COUNTRY", "").lower() or None
    ours = {theirs: name for name, theirs in vendor.countries.items()}
    return Wish(
        session=session_name(fields["session"]) if "session" in fields else None,
        country=ours.get(country or "", country),
        region=_words(vendor, fields.get("region")),
        city=_words(vendor, fields.get("city")),
        lifetime=_seconds(vendor, fields.get("lifetime")),
    )


def _words(vendor: Provider, place: str | None) -> str | None:
    return place.replace(vendor.joint, " ") if place and vendor.joint else place


def _seconds(vendor: Provider, text: str | None) -> int | None:
    if text is None or vendor.lifetimes is None:
        return None
    if vendor.lifetimes.unit == "suffixed":
        return int(text[:-1]) * 86_400 if text.endswith("d") else read_duration(text)
    return int(text) * (60 if vendor.lifetimes.unit == "m" else 1)


@pytest.mark.parametrize("name", providers())
@given(wish=wishes)
def test_a_wish_is_read_back_from_the_credential(name: str, wish: Wish) -> None:
    """What a vendor takes is in its credential, whole, and no other wish could have made it."""
    vendor = providers()[name]
    try:
        username, password = compile_credential(name, (ACCOUNTS.get(name, "bob"), "pw"), wish)
    except SettingsError:
        return  # it does not take this one
    assert read_back(vendor, username, password) == [wish]


@pytest.mark.parametrize("name", providers())
@given(one=wishes, other=wishes)
def test_two_wishes_never_share_a_credential(name: str, one: Wish, other: Wish) -> None:
    """Two identities are two credentials."""
    account = (ACCOUNTS.get(name, "bob"), "pw")
    try:
        same = compile_credential(name, account, one) == compile_credential(name, account, other)
    except SettingsError:
        return
    assert same == (one == other)


@pytest.mark.parametrize("name", providers())
@given(one=sessions, other=sessions)
def test_two_sessions_never_share_a_spelling(name: str, one: str, other: str) -> None:
    """Whatever a session's name is spelled as for a vendor, it is read back from that."""
    vendor = providers()[name]
    for session in (one, other):
        try:
            assert session_name(spelled_session(vendor, session)) == session
        except SettingsError:
            continue


@given(account=accounts, wish=wishes)
def test_a_username_is_read_as_it_was_written(account: str, wish: Wish) -> None:
    """Whatever the account's name and the session hold."""
    assert parse(write(account, wish)) == (account, wish)


@given(text=st.text(max_size=60))
def test_any_username_is_a_wish_or_a_clear_error(text: str) -> None:
    """Nothing else is raised, and what is read is written in the one spelling of it."""
    try:
        account, wish = parse(text)
    except SettingsError:
        return
    assert parse(write(account, wish)) == (account, wish)


@given(seconds=st.integers(1, 10**8))
def test_a_duration_is_read_as_it_was_written(seconds: int) -> None:
    """In whatever unit."""
    assert read_duration(duration(seconds)) == seconds
