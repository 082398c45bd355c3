"""Notes beside the records, the tier's own examination, and giving it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxywhirl.cache.tiers.protocol import Tier
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, delete, full, put, record, same

NAMES = ["a", "a_b", "a.b", "axb", "revision", "floor", "store_id", "key-check", "n0.tmp", "schema_version"]
TEXTS = ["", "plain", "ünï ☃ \U0001f9ea", "two\r\nlines\n", ' " \\ ', "x" * 70_000]


class NoteClauses(Clauses):
    """`get_meta`, `set_meta`, `metas`, `examine` and `close`."""

    def test_a_note_keeps_its_last_text(self) -> None:
        """A note is None until it is set, may be any text, is replaced by the next, and is removed by None."""
        for tier in (self.authority(), self.window()):
            for text in TEXTS:
                tier.set_meta("note", text)
                same(tier.get_meta("note"), text, "a note")
            tier.set_meta("note", None)
            same(tier.get_meta("note"), None, "a removed note")
            tier.set_meta("note", None)
            same(tier.metas(""), {}, "all notes, after the only one was removed twice")

    def test_notes_are_found_by_the_beginning_of_their_names(self) -> None:
        """Every name is the user's: none is taken by the tier itself, none stands for others."""
        tier = self.authority()
        revision = put(tier, record("r")).revision
        for name in NAMES:
            same((name, tier.get_meta(name)), (name, None), "a note that was never set")
        same(tier.metas(""), {}, "the notes of a tier in which none was set")
        for name in NAMES:
            tier.set_meta(name, f"text of {name}")
        for prefix in ("", "a", "a_", "a.", "re", "n0.tmp", "x", "%"):
            expected = {name: f"text of {name}" for name in NAMES if name.startswith(prefix)}
            same(tier.metas(prefix), expected, f"the notes that begin with {prefix!r}")
        same((tier.revision, list(all_records(tier))), (revision, ["r"]), "revision and records beside the notes")

    def test_notes_survive_a_clear(self) -> None:
        """`clear` forgets records, not notes."""
        for tier in (self.authority(), self.window()):
            tier.set_meta("store_id", "one")
            tier.clear(5)
            same(tier.get_meta("store_id"), "one", "a note after clear")

    def test_a_sound_tier_has_no_findings(self) -> None:
        """`examine` says nothing of a tier that was merely used, and repairing it changes nothing."""
        use: list[Callable[[Tier], object]] = [
            lambda tier: put(tier, full("f"), record("a"), record("b")),
            lambda tier: delete(tier, "a"),
            lambda tier: put(tier, replace(record("b"), retired=True), record("c"), record("d")),
            lambda tier: tier.clear(),
            lambda tier: put(tier, record("e")),
        ]
        tier = self.authority(max_entries=2)
        tier.set_meta("note", "text")
        same(tier.examine(), [], "findings in an empty tier")
        for step in use:
            step(tier)
            before = all_records(tier), tier.revision, len(tier)
            same((tier.examine(), tier.examine(repair=True)), ([], []), "findings in a sound tier")
            same((all_records(tier), tier.revision, len(tier)), before, "the tier after its examination")
        same(tier.corrupted, 0, "corrupted")
        window = self.window()
        window.fill([record("a", revision=3)], 3)
        same((window.examine(), window.examine(repair=True)), ([], []), "findings in a window")

    def test_closing_again_does_nothing(self) -> None:
        """`close` may be called any number of times."""
        for tier in (self.authority(), self.window()):
            tier.close()
            tier.close()
