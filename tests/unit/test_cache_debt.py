"""What a sick authority is owed: noted whole, shared by processes, settled once, lost by no crash."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from proxywhirl.cache.coordination.handoff import FORMAT, HEADER, PAGE, SPARE_LINES, VERSION, HintFile
from proxywhirl.cache.policy import Hint
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.jsonl.format import encode_line
from proxywhirl.errors import FormatVersionError, TierError

TIMEOUT = 60
Owed = tuple[str, int | None, bool]


def record(key: str, **fields: Any) -> Record:
    """Make a record; `failure_count` is what tells one from another here."""
    return replace(Record(key, "http://192.0.2.1:80", "src", 1.0, 60, 61.0, 1.0), **fields)


def put(debts: HintFile, *keys: str, count: int = 0, merge: bool = False) -> None:
    """Note records under keys."""
    debts.note([record(key, failure_count=count) for key in keys], [], base=7, at=9.5, merge=merge)


def delete(debts: HintFile, *keys: str) -> None:
    """Note deletions."""
    debts.note([], keys, base=7, at=9.5, merge=False)


def owed(debts: Sequence[Hint]) -> list[Owed]:
    """Return key, value and manner of debts."""
    return [(debt.key, debt.record.failure_count if debt.record else None, debt.merge) for debt in debts]


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Make the system cut writes at a size and refuse what lies beyond, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_debt_is_read_back_as_it_was_noted(tmp_path: Path) -> None:
    """Every stored field of a record, its base and its time survive; the credential is there sealed alone."""
    full = record(
        "k", attributes='{"tags":["a"]}', error="ü\n", sealed="up:token", retired=True, revision=3, generation=2
    )
    debts = HintFile(tmp_path)
    debts.note([replace(full, plain=("bob", "S3CRET-word"))], ["gone"], base=12, at=34.5, merge=True)
    for opened in (debts, HintFile(tmp_path)):
        assert opened.get("k") == Hint("k", full, 12, 34.5, merge=True)
        assert opened.get("gone") == Hint("gone", None, 12, 34.5, merge=False)
        assert opened.get("other") is None
        assert ("k" in opened, "other" in opened, 7 in opened, len(opened)) == (True, False, False, 2)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"S3CRET" not in path.read_bytes()
        assert b"bob" not in path.read_bytes()


def test_an_unsealed_credential_is_refused(tmp_path: Path) -> None:
    """It would be lost, or written in the clear: neither happens, and the message does not tell it."""
    debts = HintFile(tmp_path)
    with pytest.raises(TierError, match="k has credentials that are not sealed") as caught:
        debts.note([record("a"), record("k", plain=("bob", "S3CRET"))], [], base=0, at=0, merge=False)
    assert "S3CRET" not in str(caught.value)
    assert not debts.catch_up()


def test_for_one_key_the_last_debt_counts_and_the_order_is_that_of_writing(tmp_path: Path) -> None:
    """Handoff that were overwritten are not handed out; a key that is written again moves to the end."""
    debts = HintFile(tmp_path)
    put(debts, "a", "b", "c", count=1)
    delete(debts, "a")
    put(debts, "b", count=2)
    for opened in (debts, HintFile(tmp_path)):
        assert owed(opened.pending()) == [("c", 1, False), ("a", None, False), ("b", 2, False)]


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_batch_deletes_before_it_puts(tmp_path: Path, *, in_one_batch: bool) -> None:
    """A key that is deleted and put is there, and replaces what is stored."""
    debts = HintFile(tmp_path)
    if in_one_batch:
        debts.note([record("a", failure_count=4)], ["a"], base=1, at=1, merge=True)
    else:
        delete(debts, "a")
        put(debts, "a", count=4, merge=True)
    assert owed(HintFile(tmp_path).pending()) == owed(debts.pending()) == [("a", 4, False)]


@pytest.mark.parametrize("earlier", ["nothing", "put", "merge", "delete"])
@pytest.mark.parametrize("later", ["put", "merge", "delete"])
def test_how_debts_of_one_key_join(tmp_path: Path, earlier: str, later: str) -> None:
    """What is noted last counts; it merges with what is stored only where all that was noted before did."""
    debts = HintFile(tmp_path)
    for count, step in enumerate((earlier, later)):
        if step == "delete":
            delete(debts, "k")
        elif step != "nothing":
            put(debts, "k", count=count, merge=step == "merge")
    merges = later == "merge" and earlier in {"nothing", "merge"}
    expected = ("k", None if later == "delete" else 1, merges)
    assert owed(debts.pending()) == owed(HintFile(tmp_path).pending()) == [expected]


def test_processes_share_the_debts(tmp_path: Path) -> None:
    """What one notes or settles the other knows once it has caught up, and never counts twice."""
    one, other = HintFile(tmp_path / "l2"), HintFile(tmp_path / "l2")
    assert not other.catch_up()
    put(one, "a", "b", count=1)
    assert "a" not in other
    assert other.catch_up()
    assert len(other) == 2
    put(other, "c")
    delete(other, "a")
    assert owed(one.pending()) == owed(other.pending()) == [("b", 1, False), ("c", 0, False), ("a", None, False)]
    assert one.hand_over(lambda _: None) == 3
    assert not other.catch_up()
    assert other.hand_over(lambda _: pytest.fail("there is nothing to settle")) == 0
    assert other.pending() == []
    put(other, "d")  # in a new file, which may have the old one's inode
    assert owed(one.pending()) == [("d", 0, False)]


def test_debts_are_settled_in_pages_and_forgotten_together(tmp_path: Path) -> None:
    """A page holds 500; where one fails all stay and are handed out again, in the same order."""
    debts = HintFile(tmp_path)
    keys = [f"k{n:04}" for n in range(2 * PAGE + 1)]
    put(debts, *keys)
    pages: list[list[str]] = []

    def fail_at_the_second(page: Sequence[Hint]) -> None:
        pages.append([debt.key for debt in page])
        if len(pages) == 2:
            raise TierError("still sick")

    with pytest.raises(TierError, match="still sick"):
        debts.hand_over(fail_at_the_second)
    assert len(debts) == len(HintFile(tmp_path)) == len(keys)
    assert debts.catch_up()
    pages = [[], []]
    assert debts.hand_over(fail_at_the_second) == len(keys)
    assert [len(page) for page in pages[2:]] == [PAGE, PAGE, 1]
    assert [key for page in pages for key in page] == keys
    assert not debts.catch_up()
    assert debts.pending() == HintFile(tmp_path).pending() == []


def test_what_settles_cannot_note(tmp_path: Path) -> None:
    """A debt that is noted by the settling thread itself would be forgotten with the others: it is refused."""
    debts = HintFile(tmp_path)
    put(debts, "a")
    with pytest.raises(TierError, match="takes no debts"):
        debts.hand_over(lambda _: put(debts, "b"))
    assert owed(HintFile(tmp_path).pending()) == [("a", 0, False)]
    put(debts, "b")
    assert len(debts) == 2


def test_two_that_settle_at_once_settle_each_debt_once(tmp_path: Path) -> None:
    """The second waits for the first and finds nothing; one that notes meanwhile is not lost."""
    one, other, third = (HintFile(tmp_path) for _ in range(3))
    put(one, "a")
    handed: list[str] = []

    def note_and_settle() -> None:
        put(third, "b")
        other.hand_over(lambda page: handed.extend(debt.key for debt in page))

    second = threading.Thread(target=note_and_settle)

    def act(page: Sequence[Hint]) -> None:
        second.start()
        second.join(0.02)  # gives it the time to be wrong
        assert second.is_alive()
        handed.extend(debt.key for debt in page)

    one.hand_over(act)
    second.join(TIMEOUT)
    assert handed == ["a", "b"]
    assert not one.catch_up()


def test_a_full_file_refuses_openly(tmp_path: Path) -> None:
    """The limit is one of keys, over all processes; a batch beyond it is refused whole, a known key is taken."""
    one, other = HintFile(tmp_path, limit=3), HintFile(tmp_path, limit=3)
    put(one, "a", "b")
    with pytest.raises(TierError, match=r"debt\.jsonl is full: .* 2 entries"):
        put(other, "c", "d")
    put(other, "c", "a")
    with pytest.raises(TierError, match="is full"):
        delete(one, "d")
    delete(one, "b")
    assert [key for key, *_ in owed(HintFile(tmp_path).pending())] == ["c", "a", "b"]


def test_a_directory_that_cannot_be_used_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """The system's error leaves as a TierError; nothing counts as noted."""
    debts = HintFile(tmp_path / "l2")
    (tmp_path / "l2").write_text("in the way")
    with pytest.raises(TierError, match=r"l2/debt\.jsonl failed"):
        put(debts, "a")
    with pytest.raises(TierError, match=r"l2/debt\.jsonl failed"):
        debts.catch_up()
    assert len(debts) == 0


@pytest.mark.parametrize("fsync", [True, False])
def test_a_disk_that_fills_up_at_any_byte_takes_the_batch_or_refuses_it(tmp_path: Path, *, fsync: bool) -> None:
    """A write that was cut short is taken back: the batch is not there, the next one is, nothing counts as damage."""
    other = HintFile(tmp_path / "other")
    put(other, "a", "b", "c")
    length = other.path.stat().st_size
    debts = HintFile(tmp_path, fsync=fsync)
    for kept in ((), ("z",)):  # into a new file, and behind what is there
        if kept:
            put(debts, *kept)
        start = debts.path.stat().st_size if kept else 0
        end = start + length - (len(HEADER) if kept else 0)
        for size in (*range(start, end, 13), end - 1):
            with files_end_at(size), pytest.raises(TierError, match="writing to"):
                put(debts, "a", "b", "c")
            assert tuple(key for key, *_ in owed(debts.pending())) == kept
            assert len(HintFile(tmp_path)) == len(kept)
        put(debts, "a", "b", "c")
        assert len(HintFile(tmp_path)) == 3 + len(kept)
        assert debts.hand_over(lambda _: None) == 3 + len(kept)
    assert not (tmp_path / "damaged.jsonl").exists()


def test_a_batch_that_was_cut_off_at_any_byte_is_not_there(tmp_path: Path) -> None:
    """Whatever prefix of the last batch a killed process left: only what was before it is there; writing goes on."""
    debts = HintFile(tmp_path)
    put(debts, "a", "b", count=1)
    before = debts.path.read_bytes()
    put(debts, "b", "c", count=2)
    delete(debts, "x")
    debts.close()
    after = debts.path.read_bytes()
    whole = after.index(b"\n", after.index(b'"c"')) + 1
    for size in range(len(before), whole):
        (tmp_path / "debt.jsonl").write_bytes(after[:size])
        again = HintFile(tmp_path)
        assert owed(again.pending()) == [("a", 1, False), ("b", 1, False)], size
        assert again.corrupted == (size > len(before))
        put(again, "d")
        again.close()
        third = HintFile(tmp_path)
        assert (len(third), third.corrupted) == (3, 0)
        third.close()


def test_a_flipped_byte_costs_the_lines_that_it_is_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rest is there at once and for good; the damage is counted, and kept in a file that the message names."""
    debts = HintFile(tmp_path)
    put(debts, "a", "b")
    delete(debts, "c", "d", "e")
    debts.close()
    content = debts.path.read_bytes()
    ends = [n for n, byte in enumerate(content) if byte == ord("\n")]
    keys = "abcde"
    for place in sorted({*range(0, len(content), 3), *ends}):
        debts.path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        line = sum(end < place for end in ends) - 1  # of the keys; the header is before them
        lost = {line, line + 1} if place in ends else {line}
        if place == ends[-1]:
            lost = set()  # the line is whole
        again = HintFile(tmp_path)
        left = [debt.key for debt in again.pending()]
        assert left == [key for n, key in enumerate(keys) if n not in lost], place
        assert again.corrupted == 1 or place in ends[:-1]
        again.close()
        third = HintFile(tmp_path)
        assert [debt.key for debt in third.pending()] == left
        assert third.corrupted == 0
        third.close()
    assert str(tmp_path / "damaged.jsonl") in caplog.text
    assert b'"e"' in (tmp_path / "damaged.jsonl").read_bytes()
    assert (tmp_path / "damaged.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_on_a_full_disk_is_read_and_settled(tmp_path: Path) -> None:
    """Where damage can be neither kept aside nor mended now, that is said, and nothing else is lost by it."""
    debts = HintFile(tmp_path)
    put(debts, "a", "b", "c")
    content = debts.path.read_bytes().replace(b'"b"', b'"#"')
    debts.path.write_bytes(content)
    with files_end_at(0):
        again = HintFile(tmp_path)
        assert [debt.key for debt in again.pending()] == ["a", "c"]
        with pytest.raises(TierError, match="writing to"):
            put(again, "d")
    put(again, "d")
    again.close()
    third = HintFile(tmp_path)
    assert [debt.key for debt in third.pending()] == ["a", "c", "d"]
    assert third.corrupted == 0
    assert third.hand_over(lambda _: None) == 3


def test_a_line_that_no_version_wrote_is_damage(tmp_path: Path) -> None:
    """A right checksum over wrong fields costs that line alone."""
    debts = HintFile(tmp_path)
    put(debts, "a")
    with debts.path.open("ab") as stream:
        for change in ({}, {"op": "put", "key": "x", "colour": 1}, {"op": "del"}):
            stream.write(encode_line({"op": "owe", "left": 0, "base": 1, "at": 1.0, "merge": False, "change": change}))
    put(debts, "b")
    assert [debt.key for debt in debts.pending()] == ["a", "b"]
    assert debts.corrupted == 3


def test_a_newer_version_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    """The error names file and versions; not a byte is changed, even where the last line has no end."""
    newer = encode_line({"op": "head", "format": FORMAT, "version": VERSION + 1}) + b'{"news'
    path = tmp_path / "debt.jsonl"
    path.write_bytes(newer)
    with pytest.raises(FormatVersionError, match=rf"(?s){path}.*version {VERSION + 1}.*up to version {VERSION}"):
        HintFile(tmp_path)
    assert path.read_bytes() == newer


def test_the_file_stays_small_while_the_same_keys_are_written(tmp_path: Path) -> None:
    """It is rewritten now and then, which another process follows, and which a leftover of a kill does not disturb."""
    debts, other = HintFile(tmp_path), HintFile(tmp_path)
    (tmp_path / "debt.tmp").write_bytes(b"half a debt")
    put(debts, "first")
    inodes = set()
    for n in range(3 * SPARE_LINES):
        put(debts, "k", count=n)
        inodes.add(debts.path.stat().st_ino)
        if n % 500 == 0:
            assert owed(other.pending()) == [("first", 0, False), ("k", n, False)]
    assert debts.path.read_bytes().count(b"\n") < SPARE_LINES + 10
    assert len(inodes) > 1
    assert owed(other.pending()) == owed(HintFile(tmp_path).pending()) == [("first", 0, False), ("k", n, False)]
    assert not (tmp_path / "debt.tmp").exists()


def test_lines_can_be_read_by_other_programs(tmp_path: Path) -> None:
    """The first line names format and version; every line is JSON."""
    debts = HintFile(tmp_path)
    debts.note([record("a")], ["b"], base=3, at=2.5, merge=True)
    head, *lines = [json.loads(line) for line in debts.path.read_bytes().splitlines()]
    assert (head["format"], head["version"]) == (FORMAT, VERSION)
    assert [(line["left"], line["base"], line["at"]) for line in lines] == [(1, 3, 2.5), (0, 3, 2.5)]
    assert lines[0]["change"] == {"op": "del", "key": "b"}
    assert (lines[1]["change"]["op"], lines[1]["change"]["record"]["url"]) == ("put", "http://192.0.2.1:80")


FORKER = """
import os, sys
from pathlib import Path
from proxywhirl.cache.coordination.handoff import HintFile

debts = HintFile(Path(sys.argv[1]))
debts.note([], ["before"], base=1, at=1.0, merge=False)
with debts._locked():  # as another thread of the parent may hold it
    pid = os.fork()
    if pid == 0:
        debts.abandon()
        print("child", "before" in debts, flush=True)
    else:
        debts.note([], ["parent"], base=1, at=1.0, merge=False)
if pid == 0:
    debts.catch_up()
    debts.note([], ["child"], base=1, at=1.0, merge=False)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
debts.catch_up()
print(sorted(debt.key for debt in debts.pending()), flush=True)
"""


def test_a_forked_child_goes_on_without_disturbing_its_parent(tmp_path: Path) -> None:
    """Neither the parent's lock nor its open file is the child's; both write on."""
    done = subprocess.run(
        [sys.executable, "-c", FORKER, str(tmp_path)], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["child False", "['before', 'child', 'parent']"]


WRITER = """
import os, sys
from pathlib import Path
from proxywhirl.cache.coordination.handoff import HintFile
from proxywhirl.cache.record import Record

home, n, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[2])
debts = HintFile(home)
fd = os.open(home / "authority", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def act(page):
    for debt in page:
        value = debt.record.failure_count if debt.record else -1
        os.write(fd, f"{debt.key} {value}\\n".encode())

print("open", flush=True)
while True:
    made = [Record(f"k{(n + i) % 50}", "http://h:80", "s", 1.0, 1, 2.0, 1.0, failure_count=n) for i in range(3)]
    debts.note(made, [f"k{(n + 3) % 50}"], base=0, at=float(n), merge=False)
    print(n, flush=True)
    n += 1
    if n % 11 == 0:
        debts.hand_over(act)
"""


def applied(state: dict[str, int], number: int) -> None:
    """Do to a model what the writer does in one step."""
    for i in range(3):
        state[f"k{(number + i) % 50}"] = number
    state[f"k{(number + 3) % 50}"] = -1


def test_a_killed_process_has_lost_no_debt_that_it_acknowledged(tmp_path: Path) -> None:
    """Ten kills at random instants, notes and settlements under way: each batch is there whole, or was never said."""
    chance = random.Random(5)
    model: dict[str, int] = {}
    number = 0
    for round_ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            said = [writer.stdout.readline() for _ in range(chance.randrange(1, 120))]
            writer.send_signal(signal.SIGKILL)
            said += [line for line in writer.stdout.readlines() if line.endswith("\n")]
            assert writer.wait(TIMEOUT) == -signal.SIGKILL
        for line in said:
            applied(model, int(line))
        number = int(said[-1]) + 1
        with_next = dict(model)
        applied(with_next, number)  # may have been done and not said
        found: dict[str, int] = {}
        for line in (tmp_path / "authority").read_text().splitlines() if (tmp_path / "authority").exists() else []:
            key, value = line.split()
            found[key] = int(value)
        for debt in HintFile(tmp_path).pending():
            found[debt.key] = debt.record.failure_count if debt.record else -1
        assert found in (model, with_next), f"round {round_}"
        if found == with_next:
            model, number = with_next, number + 1


class DebtMachine(RuleBasedStateMachine):
    """Two processes on one file, against the values that the authority must have in the end."""

    @initialize()
    def start(self) -> None:
        """Open both."""
        self.home = Path(tempfile.mkdtemp(prefix="proxywhirl-debt-"))
        self.files = [HintFile(self.home), HintFile(self.home)]
        self.authority: dict[str, int] = {}
        self.truth: dict[str, int] = {}
        self.count = 0

    batches = st.lists(
        st.tuples(st.sampled_from("abcdef"), st.booleans()), min_size=1, max_size=4, unique_by=lambda b: b[0]
    )
    who = st.sampled_from([0, 1])

    def note(self, who: int, batch: list[tuple[str, bool]]) -> dict[str, int]:
        """Note a batch; return the truth after it."""
        self.count += 1
        puts = [record(key, failure_count=self.count) for key, there in batch if there]
        deletes = [key for key, there in batch if not there]
        self.files[who].note(puts, deletes, base=0, at=float(self.count), merge=False)
        after = {key: value for key, value in self.truth.items() if key not in deletes}
        return {**after, **{put.key: self.count for put in puts}}

    @rule(who=who, batch=batches)
    def write(self, who: int, batch: list[tuple[str, bool]]) -> None:
        """One of them notes a batch."""
        self.truth = self.note(who, batch)

    @rule(who=who, batch=batches, share=st.floats(0, 1))
    def die_while_writing(self, who: int, batch: list[tuple[str, bool]], share: float) -> None:
        """One of them is killed when a part of its batch, or all, has reached the file."""
        path = self.home / "debt.jsonl"
        before = path.stat().st_size if path.exists() else 0
        after = self.note(who, batch)
        self.files[who].close()
        whole = path.stat().st_size
        kept = round(before + (whole - before) * share)
        os.truncate(path, kept)
        self.truth = after if kept == whole else self.truth
        self.files[who] = HintFile(self.home)

    def act(self, page: Sequence[Hint]) -> None:
        """Write debts to the authority."""
        for debt in page:
            self.authority.pop(debt.key, None)
            if debt.record is not None:
                self.authority[debt.key] = debt.record.failure_count

    @rule(who=who)
    def settle(self, who: int) -> None:
        """One of them settles: the authority knows everything, and is owed nothing."""
        self.files[who].hand_over(self.act)
        assert self.authority == self.truth
        assert not self.files[1 - who].catch_up()

    @rule(who=who, done=st.integers(0, 5), killed=st.booleans())
    def fail_to_settle(self, who: int, done: int, *, killed: bool) -> None:
        """The authority takes some debts and falls sick again, or the process dies."""

        def act(page: Sequence[Hint]) -> None:
            self.act(page[:done])
            raise TierError("sick again")

        if self.files[who].catch_up():
            with pytest.raises(TierError, match="sick again"):
                self.files[who].hand_over(act)
        if killed:
            self.files[who].close()
            self.files[who] = HintFile(self.home)

    @rule(who=who)
    def catch_up(self, who: int) -> None:
        """What one knows by key is what is pending."""
        debts = self.files[who]
        debts.catch_up()
        pending = debts.pending()
        assert len(debts) == len(pending)
        assert all(debts.get(debt.key) == debt for debt in pending)

    @invariant()
    def nothing_is_lost(self) -> None:
        """What is stored and what is owed make the truth, for a third process."""
        third = HintFile(self.home)
        known = dict(self.authority)
        for debt in third.pending():
            known.pop(debt.key, None)
            if debt.record is not None:
                known[debt.key] = debt.record.failure_count
        third.close()
        assert known == self.truth
        assert bool(self.files[0].catch_up()) or self.authority == self.truth

    def teardown(self) -> None:
        """Close both and remove the files."""
        for debts in self.files:
            debts.close()
        shutil.rmtree(self.home)


def test_any_history_of_two_processes_loses_nothing() -> None:
    """Notes, kills, settlements that end or fail, in any order."""
    run_state_machine_as_test(DebtMachine, settings=settings(max_examples=40, stateful_step_count=25))
