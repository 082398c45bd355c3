"""The grammar of wishes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.wish import NO_WISH, Wish


def test_every_key_is_read_as_what_it_is() -> None:
    """Texts stay texts, numbers and truths become such, several values become a tuple."""
    wish = Wish.parse("session=cart-17,country=de|fr,city=new%20york,asn=3320,tags=fast,connect=true,max_price=2.5")
    assert wish.session == "cart-17"
    assert wish.wishes == {
        "country": ("de", "fr"),
        "city": "new york",
        "asn": 3320,
        "tags": "fast",
        "connect": True,
        "max_price": 2.5,
    }


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=50))
def test_any_printable_session_survives_percent_encoding(session: str) -> None:
    """A session may hold commas, equals signs, bars and percent signs, where they are encoded."""
    encoded = "".join(f"%{byte:02X}" for byte in session.encode())
    assert Wish.parse(f"session={encoded}") == Wish(session)


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
        ("session=", "1 to 200 printable"),
        ("session=%00", "1 to 200 printable"),
        ("tags=", "tags must be a text"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_known(text: str, words: str) -> None:
    """An unknown key or an impossible value is an error that tells what there is."""
    with pytest.raises(ValueError, match=words):
        Wish.parse(text)


def test_an_unknown_part_is_not_repeated() -> None:
    """What is no wish may be a piece of somebody's password: the message does not show it."""
    with pytest.raises(ValueError, match="part 1") as caught:
        Wish.parse("hunter2")
    assert "hunter2" not in str(caught.value)


def test_keywords_make_the_same_wish_as_the_text() -> None:
    """Both ways to wish meet in one value; what is None is not wished."""
    assert Wish.of("a", {"country": ["de", "fr"], "city": None}) == Wish.parse("session=a,country=de|fr")
    assert Wish.of(None, {}) == NO_WISH
