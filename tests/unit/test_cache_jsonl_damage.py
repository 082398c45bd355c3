"""What damage to the files of the JSONL tier costs: the lines that it hit, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxywhirl.cache.manifest import DAMAGED, MARK
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.jsonl.directory import shard_number
from proxywhirl.cache.tiers.jsonl.format import (
    decode_line,
    encode_evictions,
    encode_hit,
    encode_record,
    encode_removal,
    removal_in,
    whole_lines,
)
from proxywhirl.cache.tiers.jsonl.shard_file import ShardFile
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Access, Batch, Stretch
from proxywhirl.errors import TierError

MASKS = (0x01, 0x02, 0x20, 0x80, 0xFF)
SHARD = 3
KEYS = [key for key in (f"k{n}" for n in range(400)) if shard_number(key) == SHARD][:6]
PATH = f"shard-{SHARD:02x}.jsonl"


def record(key: str, revision: int = 0, **fields: object) -> Record:
    """Make a record."""
    made = Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0, revision=revision, generation=revision)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def opened(directory: Path, *, authority: bool = True) -> JsonlTier:
    """Open the tier."""
    return JsonlTier(directory, authority=authority)


def held(tier: JsonlTier) -> dict[str, int]:
    """Name what a tier serves, with the revisions."""
    return {found.key: found.revision for found in tier.scan("", 1000)}


def read(lines: list[bytes]) -> dict[str, int]:
    """Say what whole lines say, by the format's own rule: the last line of a key wins."""
    there: dict[str, int] = {}
    for line in lines:
        fields = decode_line(line)
        if fields is None or fields["op"] in {"head", "hit"}:
            continue
        if fields["op"] == "put":
            there[fields["key"]] = fields["revision"]
        for key in fields.get("keys", [fields["key"]] if fields["op"] == "del" else []):
            there.pop(key, None)
    return there


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make a small store with every kind of line in one shard: five records, of which two went again."""
    directory = tmp_path / "l2"
    tier = opened(directory)
    a, b, c, d, e, _ = KEYS
    tier.transact([], lambda _: Batch(puts=[record(key) for key in (a, b, c, d)]))
    tier.transact([], lambda _: Batch(deletes=[b]))
    tier.touch_many([Access(c, 3, 2, 9.0)])
    tier.transact([], lambda _: Batch(puts=[record(e, sealed="up:token", attributes='{"country":"DE"}')]))
    tier.drop([d])
    tier.transact([], lambda _: Batch(puts=[record("elsewhere")]))
    tier.close()
    assert shard_number("elsewhere") != SHARD
    return directory


@pytest.fixture
def damaged_home(home: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    """Give a function that makes the store again with another content of its shard."""
    others = {path.name: path.read_bytes() for path in home.iterdir() if path.name != PATH}

    def make(content: bytes) -> Path:
        for path in home.iterdir():
            path.unlink()
        for name, whole in others.items():
            (home / name).write_bytes(whole)
        (home / PATH).write_bytes(content)
        return home

    return make


def shard(path: Path, content: bytes) -> ShardFile:
    """Read a shard that has this content."""
    path.write_bytes(content)
    return ShardFile(path, lambda key: shard_number(key) == SHARD)


def revisions(file: ShardFile) -> dict[str, int]:
    """Name what a shard can give, with the revisions."""
    found = {key: file.read(key, located) for key, located in file.index.items()}
    assert None not in found.values()
    return {key: record.revision for key, record in found.items() if record is not None}


def rewritten(file: ShardFile, path: Path) -> dict[str, int]:
    """Rewrite a shard without what is damaged, and read it again."""
    assert file.rewrite((), revision=9, floor=0) == []
    file.close()
    again = shard(path, path.read_bytes())
    news = again.catch_up()
    assert news is not None
    assert (news.damaged, news.torn) == ([], b"")
    found = revisions(again)
    again.close()
    return found


def test_every_prefix_of_a_shard_loads_its_whole_lines(home: Path, tmp_path: Path) -> None:
    """Whatever a file was cut to, its whole lines count, and a piece of one is told."""
    whole = (home / PATH).read_bytes()
    for length in range(len(whole) + 1):
        *lines, piece = whole[:length].split(b"\n")
        complete = decode_line(piece) is not None  # only its newline is missing
        expected = read([*lines, piece] if complete else lines)
        file = shard(tmp_path / "shard", whole[:length])
        news = file.catch_up()
        assert revisions(file) == expected, length
        assert [*(news.damaged if news else []), news.torn if news else b""] == [
            *([piece] * complete),
            b"" if complete else piece,
        ]
        if length % 23 == 0:
            assert rewritten(file, tmp_path / "shard") == expected, length
        file.close()


def after_a_flip(whole: bytes, place: int) -> dict[str, int]:
    """Say what must be there when a byte was flipped: all but its line, and what was removed stays removed."""
    lines = whole.splitlines(keepends=True)
    start = 0
    for n, line in enumerate(lines):
        if start <= place < start + len(line) - 1 and json.loads(line)["op"] not in {"del", "evict"}:
            return read([other for at, other in enumerate(lines) if at != n])
        start += len(line)
    return read(lines)


@pytest.mark.parametrize("mask", MASKS)
def test_every_flipped_byte_of_a_shard_costs_one_line(home: Path, tmp_path: Path, mask: int) -> None:
    """Each byte, newlines and first line too: all other lines count, and the damaged one is told."""
    whole = (home / PATH).read_bytes()
    for place in range(len(whole)):
        file = shard(tmp_path / "shard", whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        news = file.catch_up()
        assert news is not None
        assert revisions(file) == after_a_flip(whole, place), place
        assert 1 <= len(news.damaged) <= 2, place  # a newline that came in makes two of a line
        if (place + mask) % 23 == 0:
            assert rewritten(file, tmp_path / "shard") == after_a_flip(whole, place), place
        file.close()


@pytest.mark.parametrize("mask", MASKS)
def test_a_tier_sets_damage_aside_and_works_on(
    home: Path, damaged_home: Callable[[bytes], Path], mask: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, kept in a file that the log names and none but its owner reads, and gone for who opens next."""
    whole = (home / PATH).read_bytes()
    for place in range(mask % 61, len(whole), 61):
        caplog.clear()
        flipped = whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :]
        tier = opened(damaged_home(flipped))
        expected = {**after_a_flip(whole, place), "elsewhere": 7}
        assert held(tier) == expected, place
        assert 1 <= tier.corrupted <= 2, place
        assert str(home / DAMAGED) in caplog.text
        assert (home / DAMAGED).read_bytes() in flipped + b"\n"
        assert (home / DAMAGED).stat().st_mode & 0o777 == 0o600
        tier.transact([], lambda _: Batch(puts=[record(KEYS[5])]))
        tier.close()
        again = opened(home)
        assert held(again).keys() == {*expected, KEYS[5]}, place
        assert again.corrupted == 0
        again.close()


@pytest.mark.parametrize(
    "line",
    [encode_removal("ab", 12), encode_evictions(["ab", "cd", "ef"]), encode_removal("ünï", 2**40)],
)
def test_a_removal_is_told_from_any_one_wrong_byte(line: bytes) -> None:
    """The checksum tells which byte is wrong, so that what was removed does not come back."""
    expected = decode_line(line)
    line = line[:-1]
    for place in range(len(line)):
        for mask in range(1, 256):
            assert removal_in(line[:place] + bytes([line[place] ^ mask]) + line[place + 1 :]) == expected
    assert removal_in(line[:10] + b"##" + line[12:]) is None
    assert removal_in(b"") is None
    assert removal_in(encode_record(record("ab"))[:-2] + b"#") is None


def test_whole_lines_are_found_in_anything() -> None:
    """Between garbage, side by side, after zeros: a line counts where its checksum fits."""
    one, two = encode_removal("ab", 1)[:-1], encode_record(record("cd"))[:-1]
    assert [(one + two)[a:b] for a, b in whole_lines(one + two)] == [one, two]
    text = b"\0\0" + one + b'#{"op":"put"' + two + one[:-3]
    assert [text[a:b] for a, b in whole_lines(text)] == [one, two]
    assert whole_lines(b'{"op":"' * 50 + b',"crc":"00000000"}') == []


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 4096,
        b"\xff\xfe\n\x80\n",
        b"no json at all\n{}\n[]\n",
        b'{"op":"put","key":1,"crc":"00000000"}\n',
        b"\n\n\n",
    ],
)
def test_what_is_no_line_at_all_costs_nothing_else(damaged_home: Callable[[bytes], Path], content: bytes) -> None:
    """Zeros, bytes that are no text, and text that is no line are set aside; the other files are as they were."""
    directory = damaged_home(content)
    tier = opened(directory)
    assert held(tier) == {"elsewhere": 7}
    assert tier.corrupted >= 1
    tier.transact([], lambda _: Batch(puts=[record(KEYS[0])]))
    assert held(tier).keys() == {"elsewhere", KEYS[0]}


def test_zeros_after_the_last_line_are_cut_off(home: Path, damaged_home: Callable[[bytes], Path]) -> None:
    """What a power cut leaves of a file that had grown is no line."""
    whole = (home / PATH).read_bytes()
    tier = opened(damaged_home(whole + b"\0" * 10_000))
    assert held(tier) == {**read(whole.splitlines()), "elsewhere": 7}
    assert (home / PATH).read_bytes() == whole
    assert (home / DAMAGED).stat().st_size < 100


def test_lines_that_stand_twice_count_once(home: Path, damaged_home: Callable[[bytes], Path]) -> None:
    """A file whose content was doubled holds the same."""
    whole = (home / PATH).read_bytes()
    tier = opened(damaged_home(whole + whole))
    assert held(tier) == {**read(whole.splitlines()), "elsewhere": 7}
    assert tier.corrupted == 0


@pytest.mark.parametrize(
    "line",
    [
        encode_record(record("elsewhere", 99)),
        encode_removal("elsewhere", 99),
        encode_evictions([KEYS[0], "elsewhere"]),
        encode_hit(Access("elsewhere", 7, 5, 5.0)),
    ],
)
def test_a_line_of_another_shard_is_set_aside(home: Path, damaged_home: Callable[[bytes], Path], line: bytes) -> None:
    """A good line in a file where its key does not belong says nothing."""
    whole = (home / PATH).read_bytes()
    tier = opened(damaged_home(whole + line))
    assert held(tier) == {**read(whole.splitlines()), "elsewhere": 7}
    assert tier.corrupted == 1
    assert (home / DAMAGED).read_bytes() == line


def test_a_directory_in_the_place_of_a_file_is_moved_aside(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The tier opens with what the other files hold, and names where it moved the directory."""
    (home / PATH).unlink()
    (home / PATH).mkdir()
    (home / PATH / "inside").write_text("kept")
    tier = opened(home)
    assert held(tier) == {"elsewhere": 7}
    assert tier.corrupted == 1
    (moved,) = home.glob("*set-aside*")
    assert (moved / "inside").read_text() == "kept"
    assert str(moved) in caplog.text
    tier.transact([], lambda _: Batch(puts=[record(KEYS[0])]))
    assert (home / PATH).is_file()


@pytest.mark.parametrize("content", [None, b"", b"\0" * 192, b"garbage", b'{"op":"mark","revision":99}'])
def test_a_mark_that_is_lost_makes_a_window_follow_from_the_start(tmp_path: Path, content: bytes | None) -> None:
    """Without its mark a window claims to have applied nothing, and an authority has its readers start anew."""
    window = opened(tmp_path / "window", authority=False)
    window.follow(Stretch(0, 9, [record("a", 9)], admit=True))
    authority = opened(tmp_path / "authority")
    authority.transact([], lambda _: Batch(puts=[record("a")]))
    for tier, name in ((window, "window"), (authority, "authority")):
        tier.close()
        mark = tmp_path / name / MARK
        mark.unlink() if content is None else mark.write_bytes(content)
    window = opened(tmp_path / "window", authority=False)
    assert (window.revision, held(window)) == (0, {"a": 9})
    authority = opened(tmp_path / "authority")
    assert authority.revision > 1
    assert authority.changes_since(1, 10).reset
    assert held(authority) == {"a": 1}


def test_a_window_that_lost_a_line_follows_the_log_from_where_it_was_right(tmp_path: Path) -> None:
    """An older state that shows through where a newer line was is replaced by following again."""
    directory = tmp_path / "l2"
    window = opened(directory, authority=False)
    key = KEYS[0]
    window.follow(Stretch(0, 5, [record(key, 5)], admit=True))
    window.clear(5)
    window.follow(Stretch(5, 8, [record(key, 8)], admit=True))
    window.follow(Stretch(8, 12, [record(key, 12)], admit=True))
    window.close()
    path = directory / PATH
    path.write_bytes(path.read_bytes()[:-30] + b"#" + path.read_bytes()[-29:])
    again = opened(directory, authority=False)
    assert held(again) == {key: 8}
    assert again.revision == 5
    assert again.follow(Stretch(12, 13)) is None
    assert again.follow(Stretch(5, 12, [record(key, 12)])) is not None
    assert (held(again), again.revision) == ({key: 12}, 12)


def test_the_readers_of_an_authority_that_lost_a_line_start_anew(tmp_path: Path) -> None:
    """Its revision goes on, past the one that was lost, and everyone who knew it is told to forget."""
    tier = opened(tmp_path)
    key = KEYS[0]
    for _ in range(3):
        tier.transact([], lambda _: Batch(puts=[record(key)]))
    tier.close()
    path = tmp_path / PATH
    path.write_bytes(path.read_bytes()[:-30] + b"#" + path.read_bytes()[-29:])
    again = opened(tmp_path)
    assert held(again) == {key: 2}
    assert again.revision > 3
    changes = again.changes_since(3, 10)
    assert (changes.reset, [found.key for found in changes.records]) == (True, [key])


def test_a_file_that_is_shortened_while_it_is_open_loses_what_was_cut_off(home: Path) -> None:
    """Reading finds out, without an error, that a record is not there any more; all others are."""
    tier = opened(home)
    whole = (home / PATH).read_bytes()
    a, _, _, _, e, _ = KEYS
    left = whole[: whole.index(f'"key":"{e}"'.encode()) + 20]
    with (home / PATH).open("r+b") as stream:
        stream.truncate(len(left))
    assert tier.get(e) is None
    assert tier.corrupted == 1
    assert held(tier) == {**read(left.splitlines()), "elsewhere": 7}
    tier.transact([], lambda _: Batch(puts=[record(a)]))
    assert opened(home).corrupted == 0


def test_files_that_are_removed_under_an_open_tier_are_made_again(home: Path) -> None:
    """What is written after the directory was removed is there for those who open it next."""
    tier = opened(home)
    assert len(tier) == 4
    for path in home.iterdir():
        path.unlink()
    home.rmdir()
    assert tier.changed_elsewhere() is True
    assert len(tier) == 0
    tier.transact([], lambda _: Batch(puts=[record("new")]))
    assert held(opened(home)).keys() == {"new"}
    assert tier.revision > 7


def test_a_file_that_was_changed_behind_its_lock_is_not_written_to(home: Path) -> None:
    """The write is refused as a whole, and the next one goes on from what is there."""
    tier = opened(home)
    with (home / PATH).open("ab") as stream:
        stream.write(encode_record(record(KEYS[5], 50)))
    with pytest.raises(TierError, match="something else than ProxyWhirl"):
        tier.transact([], lambda _: Batch(puts=[record(KEYS[0]), record("elsewhere")]))
    tier.transact([], lambda _: Batch(puts=[record(KEYS[0])]))
    assert tier.revision == 51
    assert KEYS[5] in tier
    assert tier.corrupted == 0
