"""The JSONL tier's files: what they look like, what damage costs, when they are rewritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.jsonl.directory import SHARDS
from proxywhirl.cache.tiers.jsonl.format import FORMAT, VERSION, decode_line, encode_line
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.protocol import Access, Batch, Stretch
from proxywhirl.errors import FormatVersionError, TierError


def record(key: str, **fields: object) -> Record:
    """Make a record."""
    made = Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def put(tier: JsonlTier, *keys: str) -> None:
    """Write records under keys."""
    tier.transact([], lambda _: Batch(puts=[record(key) for key in keys]))


def delete(tier: JsonlTier, *keys: str) -> None:
    """Remove keys."""
    tier.transact([], lambda _: Batch(deletes=list(keys)))


def opened(directory: Path) -> JsonlTier:
    """Open the tier as authority."""
    return JsonlTier(directory, authority=True)


def shard_of(directory: Path, key: str) -> Path:
    """Find the file that holds a key."""
    needle = json.dumps(key).encode()
    return next(path for path in directory.glob("shard-*.jsonl") if needle in path.read_bytes())


def same_shard(directory: Path, count: int) -> list[str]:
    """Find keys that share a shard, in a store that holds nothing else."""
    tier = opened(directory)
    names = [f"key{n:03}" for n in range(count * SHARDS * 2)]
    put(tier, *names)
    paths: dict[Path, list[str]] = {}
    for path in directory.glob("shard-*.jsonl"):
        paths[path] = [name for name in names if json.dumps(name).encode() in path.read_bytes()]
    chosen = max(paths.values(), key=len)[:count]
    delete(tier, *(name for name in names if name not in chosen))
    tier.close()
    assert len(chosen) == count
    return chosen


def test_a_shard_is_lines_of_json_that_name_their_format(tmp_path: Path) -> None:
    """The first line names format and version; every line is JSON and carries its checksum."""
    tier = opened(tmp_path / "l2")
    put(tier, "a")
    delete(tier, "a")
    tier.close()
    lines = shard_of(tmp_path / "l2", "a").read_bytes().splitlines()
    head, first, second = [json.loads(line) for line in lines]
    assert (head["op"], head["format"], head["version"]) == ("head", FORMAT, VERSION)
    assert (first["op"], first["key"], first["url"]) == ("put", "a", "http://192.0.2.1:80")
    assert (second["op"], second["key"]) == ("del", "a")
    assert all(decode_line(line) for line in lines)


def test_files_are_closed_to_others(tmp_path: Path) -> None:
    """Directories that are made have mode 0700, files 0600."""
    tier = opened(tmp_path / "a" / "b")
    put(tier, "a")
    tier.set_meta("note", "value")
    tier.clear()
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(made) > 4
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_one_put_appends_one_line(tmp_path: Path) -> None:
    """A put adds a line to one file and keeps the file; no other file is touched."""
    directory = tmp_path / "l2"
    tier = opened(directory)
    put(tier, *(f"k{n}" for n in range(200)))
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in directory.glob("shard-*")}
    put(tier, "k7")
    changed = [path for path, (_, content) in before.items() if path.read_bytes() != content]
    (path,) = changed
    inode, content = before[path]
    added = path.read_bytes().removeprefix(content)
    assert path.stat().st_ino == inode
    assert added.count(b"\n") == 1
    assert json.loads(added)["key"] == "k7"


def test_a_batch_of_hits_is_a_line_for_each_key(tmp_path: Path) -> None:
    """Access counts are appended too, and add up over reopening."""
    tier = opened(tmp_path / "l2")
    put(tier, "a")
    for at in (2.0, 3.0):
        tier.touch_many([Access("a", 1, 2, at)])
    tier.close()
    assert shard_of(tmp_path / "l2", "a").read_bytes().count(b"\n") == 4
    found = opened(tmp_path / "l2").get("a")
    assert found is not None
    assert (found.access_count, found.accessed_at) == (4, 3.0)


def test_outdated_lines_are_compacted_into_a_new_file(tmp_path: Path) -> None:
    """After many changes the file is replaced by one with the latest lines alone, in which nothing is lost."""
    directory = tmp_path / "l2"
    one, other = same_shard(directory, 2)
    tier = opened(directory)
    tier.transact([], lambda _: Batch(puts=[record(other, failure_count=7)]))
    path = shard_of(directory, one)
    inodes = set()
    for n in range(1500):
        tier.transact([], lambda _, n=n: Batch(puts=[record(one, failure_count=n)]))  # type: ignore[misc]  # bound now
        inodes.add(path.stat().st_ino)
        assert path.stat().st_size < 400_000
    assert 2 <= len(inodes) <= 6
    assert not list(directory.glob("*.tmp"))
    revision = tier.revision
    tier.close()
    again = opened(directory)
    assert {r.key: r.failure_count for r in again.scan("", 10)} == {one: 1499, other: 7}
    assert again.revision == revision
    assert again.corrupted == 0


@pytest.mark.parametrize("puts_before", [0, 1])
def test_the_change_that_brings_a_rewrite_is_in_the_new_file(tmp_path: Path, puts_before: int) -> None:
    """Be it a removal, or what comes in after one: another process reads there what the log says."""
    tier, other = opened(tmp_path), opened(tmp_path)
    for _ in range(puts_before):
        put(tier, "k")
    other.changed_elsewhere()
    inodes: set[int] = set()
    for number in range(800):
        before = other.revision
        if number % 2 == 0:
            put(tier, "k")
        else:
            delete(tier, "k")
        assert other.changed_elsewhere()
        assert (other.peek("k") is not None) is (number % 2 == 0)
        log = other.changes_since(before, 10)
        assert [*(each.key for each in log.records), *log.removed] == ["k"]
        inodes.add(shard_of(tmp_path, "k").stat().st_ino)
    assert len(inodes) > 1
    tier.close()
    other.close()


def test_a_removal_behind_what_came_after_it_removes_nothing(tmp_path: Path) -> None:
    """As earlier releases could leave them when they rewrote a file: the numbers tell which is later."""
    tier = opened(tmp_path)
    put(tier, "a")
    delete(tier, "a")
    put(tier, "a")
    file = shard_of(tmp_path, "a")
    tier.close()
    head, _, removal, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(head + last + removal)
    tier = opened(tmp_path)
    assert tier.peek("a") is not None
    assert len(tier) == 1
    tier.close()


def test_removals_that_are_kept_do_not_bring_a_rewrite_for_each_put(tmp_path: Path) -> None:
    """A shard that holds many removals is rewritten now and then, never for one put."""
    directory = tmp_path / "l2"
    tier = opened(directory)
    names = [f"k{n}" for n in range(20_000)]
    put(tier, *names)
    delete(tier, *names)
    put(tier, "a")
    path = shard_of(directory, "a")
    inodes = set()
    for _ in range(50):
        put(tier, "a")
        inodes.add(path.stat().st_ino)
    assert len(inodes) <= 2
    assert len(tier.changes_since(20_000, 10).removed) == 10


def test_a_torn_last_line_is_cut_off_and_kept_aside(tmp_path: Path) -> None:
    """A write that did not end is not there, costs nothing else, and the next write begins on a new line."""
    directory = tmp_path / "l2"
    one, other = same_shard(directory, 2)
    path = shard_of(directory, one)
    whole = path.read_bytes()
    torn = encode_line({"op": "del", "key": one, "revision": 999})[:-7]
    path.write_bytes(whole + torn)
    tier = opened(directory)
    assert {r.key for r in tier.scan("", 10)} == {one, other}
    assert tier.corrupted == 1
    assert path.read_bytes() == whole
    assert (directory / "damaged.jsonl").read_bytes() == torn + b"\n"
    put(tier, one)
    tier.close()
    assert all(decode_line(line) for line in path.read_bytes().splitlines())
    assert opened(directory).corrupted == 0


def test_a_torn_header_is_written_anew(tmp_path: Path) -> None:
    """A file that ended within its first line is made as if it had not been there."""
    directory = tmp_path / "l2"
    tier = opened(directory)
    put(tier, "a")
    tier.close()
    path = shard_of(directory, "a")
    path.write_bytes(path.read_bytes()[:20])
    tier = opened(directory)
    assert len(tier) == 0
    put(tier, "a")
    tier.close()
    assert json.loads(path.read_bytes().splitlines()[0])["format"] == FORMAT
    assert "a" in opened(directory)


@pytest.mark.parametrize("flipped", [b"\x00", b"\r", b'"', b"Z"])
def test_a_flipped_byte_costs_its_own_line_alone(tmp_path: Path, flipped: bytes) -> None:
    """The damaged line is counted once and kept aside; all other lines of the shard are there, for good."""
    directory = tmp_path / "l2"
    names = same_shard(directory, 3)
    path = shard_of(directory, names[1])
    lines = path.read_bytes().splitlines(keepends=True)
    place = max(n for n, line in enumerate(lines) if json.loads(line).get("key") == names[1])
    damaged = lines[place][:30] + flipped + lines[place][31:]
    path.write_bytes(b"".join([*lines[:place], damaged, *lines[place + 1 :]]))
    tier = opened(directory)
    assert {r.key for r in tier.scan("", 10)} == {names[0], names[2]}
    assert tier.corrupted == 1
    assert (directory / "damaged.jsonl").read_bytes() == damaged
    tier.close()
    again = opened(directory)
    assert again.corrupted == 0
    assert {r.key for r in again.scan("", 10)} == {names[0], names[2]}


def test_a_line_that_is_damaged_under_an_open_tier_is_found_when_it_is_read(tmp_path: Path) -> None:
    """The record is gone, counted once and kept aside; the tier goes on."""
    directory = tmp_path / "l2"
    one, other = same_shard(directory, 2)
    path = shard_of(directory, one)
    tier = opened(directory)
    content = path.read_bytes()
    place = content.rindex(json.dumps(one).encode()) + 1
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"#")
    assert tier.get(one) is None
    assert tier.get(one) is None
    assert tier.get(other) is not None
    assert (tier.corrupted, len(tier)) == (1, 1)
    assert b"#" in (directory / "damaged.jsonl").read_bytes()


def test_a_newer_version_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    """The error names file and versions; not a byte is changed, even where the last line has no end."""
    tier = opened(tmp_path)
    put(tier, "a")
    tier.close()
    path = shard_of(tmp_path, "a")
    newer = encode_line({"op": "head", "format": FORMAT, "version": VERSION + 1, "revision": 0, "floor": 0}) + b"{news"
    path.write_bytes(newer)
    with pytest.raises(FormatVersionError, match=rf"(?s){path}.*version {VERSION + 1}.*up to version {VERSION}"):
        opened(tmp_path)
    assert path.read_bytes() == newer


def test_a_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    """Another format's header is not taken for ours."""
    (tmp_path / "shard-00.jsonl").write_bytes(encode_line({"op": "head", "format": "other", "version": 1}))
    with pytest.raises(FormatVersionError, match="other"):
        opened(tmp_path)


def test_an_unfinished_rewrite_is_ignored(tmp_path: Path) -> None:
    """A temporary file that a killed process left behind changes nothing, and is replaced by the next rewrite."""
    tier = opened(tmp_path)
    put(tier, "a")
    tier.close()
    path = shard_of(tmp_path, "a")
    path.with_suffix(".tmp").write_bytes(b"half a sha")
    tier = opened(tmp_path)
    assert "a" in tier
    tier.clear()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_second_tier_follows_a_rewritten_file(tmp_path: Path) -> None:
    """A reader whose file was replaced under it reads the new one."""
    directory = tmp_path / "l2"
    one, other = same_shard(directory, 2)
    writer, reader = opened(directory), opened(directory)
    for n in range(1200):
        writer.transact([], lambda _, n=n: Batch(puts=[record(one, failure_count=n)]))  # type: ignore[misc]  # bound now
    delete(writer, other)
    assert reader.changed_elsewhere()
    found = reader.get(one)
    assert found is not None
    assert found.failure_count == 1199
    assert reader.get(other) is None
    assert reader.changes_since(writer.revision - 1, 10).removed == [other]


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    """The system's error leaves as a TierError."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TierError, match="file"):
        opened(tmp_path / "file" / "l2")


def test_a_note_is_replaced_whole(tmp_path: Path) -> None:
    """A note that was being written when the process died is the old one, not an empty one."""
    tier = opened(tmp_path)
    tier.set_meta("key_check", "old")
    inode = (tmp_path / "key_check.meta").stat().st_ino
    tier.set_meta("key_check", "new")
    assert (tmp_path / "key_check.meta").stat().st_ino != inode
    assert tier.get_meta("key_check") == "new"


def test_power_durability_writes_through(tmp_path: Path) -> None:
    """With `fsync` everything works the same, and what was written is there for a tier without it."""
    tier = JsonlTier(tmp_path / "l2", authority=True, fsync=True)
    put(tier, "a", "b")
    delete(tier, "a")
    tier.clear()
    put(tier, "c")
    tier.close()
    assert [r.key for r in opened(tmp_path / "l2").scan("", 9)] == ["c"]


def test_a_window_stands_exactly_where_it_was_left(tmp_path: Path) -> None:
    """A window is at the revision it followed to, a lower one after a clear that says so, never at that of a record."""
    window = JsonlTier(tmp_path)
    window.follow(Stretch(0, 20, [record("a", revision=5)], admit=True))
    assert window.fill([record("b", revision=30)], 30) == []
    assert JsonlTier(tmp_path).revision == 20
    assert window.follow(Stretch(19, 40)) is None
    window.clear(7)
    again = JsonlTier(tmp_path)
    assert (again.revision, len(again)) == (7, 0)


def test_two_windows_on_the_same_files_follow_as_one(tmp_path: Path) -> None:
    """What one followed the other need not, and what was read before that is refused."""
    one, other = JsonlTier(tmp_path), JsonlTier(tmp_path)
    assert one.follow(Stretch(0, 5, [record("a", revision=5)], admit=True)) is not None
    assert other.follow(Stretch(0, 5, [record("a", revision=5)], admit=True)) is None
    assert other.revision == 5
    assert one.follow(Stretch(5, 6, removed=["a"])) is not None
    assert other.fill([record("a", revision=5)], 5) is None
    assert "a" not in other
    assert other.revision == 6


def test_following_what_is_held_already_writes_nothing_but_the_mark(tmp_path: Path) -> None:
    """A stretch that is applied a second time is harmless and costs no line."""
    window = JsonlTier(tmp_path)
    window.follow(Stretch(0, 5, [record("a", revision=5)], admit=True))
    size = shard_of(tmp_path, "a").stat().st_size
    window.follow(Stretch(5, 6, [record("a", revision=5)], ["gone"], admit=True))
    assert shard_of(tmp_path, "a").stat().st_size == size
    assert JsonlTier(tmp_path).revision == 6


def test_what_is_evicted_within_a_batch_is_never_written(tmp_path: Path) -> None:
    """A batch larger than the window leaves only what stays in the files."""
    window = JsonlTier(tmp_path, max_entries=10)
    window.follow(Stretch(0, 50, [record(f"k{n}", revision=n) for n in range(1, 51)], admit=True))
    lines = [line for path in tmp_path.glob("shard-*") for line in path.read_bytes().splitlines()]
    assert len([line for line in lines if b'"put"' in line]) == len(window) == 10


def test_text_that_utf8_cannot_hold_comes_back(tmp_path: Path) -> None:
    """Half of a surrogate pair, in a field or in a key, is escaped."""
    tier = opened(tmp_path)
    odd = record("k\ud800", source="s\udfff", attributes='{"label":"\ud801"}')
    tier.transact([], lambda _: Batch(puts=[odd]))
    tier.close()
    found = opened(tmp_path).get("k\ud800")
    assert found is not None
    assert found.source == "s\udfff"
    assert json.loads(found.attributes) == {"label": "\ud801"}
