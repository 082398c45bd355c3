"""The grammar of wishes."""

from __future__ import annotations

import tracemalloc
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxywhirl.rotation.affinity.sessions import session_id, site_session_id
from proxywhirl.rotation.selection.request_options import NO_OPTIONS, RequestOptions


def test_every_key_is_read_as_what_it_is() -> None:
    """Texts stay texts, numbers and truths become such, several values become a tuple."""
    wish = RequestOptions.parse(
        "session=cart-17,country=de|fr,city=new%20york,asn=3320,tags=fast,connect=true,max_price=2.5"
    )
    assert wish.session == "cart-17"
    assert wish.wishes == {
        "country": ("de", "fr"),
        "city": "new york",
        "asn": 3320,
        "tags": "fast",
        "connect": True,
        "max_price": 2.5,
    }


@given(st.text(st.characters(exclude_categories=()), min_size=1), st.booleans())
@example("\ud83d\ude00", True)  # the halves of a character are another text than the character
@example("\x00,=|%:\r\n\udfff" * 2000, False)
def test_any_session_survives_percent_encoding(session: str, whole: bool) -> None:
    """Whatever text a caller of the library names a session by can be written, every byte or only where it must be."""
    encoded = quote(session, safe="", errors="surrogatepass")
    if whole:
        encoded = "".join(f"%{byte:02x}" for byte in session.encode("utf-8", "surrogatepass"))
    assert RequestOptions.decode(f"session={encoded}".encode()) == RequestOptions.of(session, {})


def test_different_names_are_different_sessions() -> None:
    """Neither length nor half a character lets two names share a proxy, nor does one share that of a whole site."""
    names = ["a" * 300, "a" * 301, "\ud83d\ude00", "\U0001f600", "caf\u00e9", "cafe\u0301", "\0t.test", "\xfft.test"]
    assert len({site_session_id("t.test"), *map(session_id, names)}) == len(names) + 1


def test_long_names_are_not_kept() -> None:
    """A caller with many names of a megabyte costs no memory for them once they are hashed."""
    tracemalloc.start()
    try:
        for number in range(20):
            session_id(f"{number}" + "x" * 1_000_000)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sesion=a", "part 1 is no wish.*session, scheme, country"),
        ("country=de,secret", "part 2 is no wish"),
        ("country=de,country=fr", "country is wished twice"),
        ("country=germany", "two-letter code"),
        ("scheme=ftp", "http, https, socks4"),
        ("asn=AS3320", "asn cannot be 'AS3320': it takes a number"),
        ("connect=yes", "true or false"),
        ("max_price=-1", "0 or more"),
        ("max_price=nan", "0 or more"),
        ("anonymity=high", "transparent, anonymous, elite"),
        ("session=", "a text that is not empty"),
        ("session=100%", "write a percent sign as %25"),
        ("session=%e", "write a percent sign as %25"),
        ("session=%FF", "the value of session is not UTF-8: percent-encode"),
        ("country=de,city=%ED%A0%80", "the value of city is not UTF-8"),
        ("tags=", "tags must be a text"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_known(text: str, words: str) -> None:
    """An unknown key or an impossible value is an error that tells what there is."""
    with pytest.raises(ValueError, match=words):
        RequestOptions.parse(text)


def test_an_unknown_part_is_not_repeated() -> None:
    """What is no wish may be a piece of somebody's password: the message does not show it."""
    with pytest.raises(ValueError, match="part 1") as caught:
        RequestOptions.parse("hunter2")
    assert "hunter2" not in str(caught.value)


def test_keywords_make_the_same_wish_as_the_text() -> None:
    """Both ways to wish meet in one value; what is None is not wished."""
    assert RequestOptions.of("a", {"country": ["de", "fr"], "city": None}) == RequestOptions.parse(
        "session=a,country=de|fr"
    )
    assert RequestOptions.of(None, {}) == NO_OPTIONS
