"""Compare the counts in an SQLite tier's file with its rows."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

_NEWEST = """max((SELECT ifnull(max(revision), 0) FROM entries), (SELECT ifnull(max(revision), 0) FROM tombstones))"""

# What is wrong, a query that is true where it is, and the statement that mends it.
_CHECKS = (
    (
        "an index and its table differ in size",
        """SELECT (SELECT count(*) FROM entries NOT INDEXED) !=
            (SELECT count(*) FROM entries INDEXED BY sqlite_autoindex_entries_1)""",
        "REINDEX",
    ),
    (
        "the log is said to begin after its end",
        "SELECT floor > revision FROM state",
        "UPDATE state SET floor = revision",
    ),
    (
        "the number of entries is not the noted one",
        """SELECT (served, stored) != (SELECT ifnull(sum(retired = 0), 0), count(*) FROM entries NOT INDEXED)
            FROM state""",
        """UPDATE state SET (served, stored) =
            (SELECT ifnull(sum(retired = 0), 0), count(*) FROM entries NOT INDEXED)""",
    ),
    (
        "keys are both there and removed",
        "SELECT count(*) FROM tombstones JOIN entries USING (key)",
        "DELETE FROM tombstones WHERE key IN (SELECT key FROM entries)",
    ),
    (
        "the number of removals is not the noted one",
        "SELECT buried != (SELECT count(*) FROM tombstones) FROM state",
        "UPDATE state SET buried = (SELECT count(*) FROM tombstones)",
    ),
    (
        "entries say that they were changed before they were made",
        "SELECT count(*) FROM entries WHERE generation > revision",
        "UPDATE entries SET generation = revision WHERE generation > revision",
    ),
)
_CHECKS_OF_AN_AUTHORITY = (
    (
        "the log ends before the newest change, which its readers miss",
        f"SELECT revision < {_NEWEST} FROM state",  # noqa: S608  # a constant
        f"UPDATE state SET (revision, floor) = (SELECT {_NEWEST} + 1, {_NEWEST} + 1)",  # noqa: S608  # a constant
    ),
)


def disagreements(connection: apsw.Connection, *, authority: bool, repair: bool) -> Iterator[str]:
    """Name what does not agree, and mend it where asked, in the transaction that is open."""
    for what, query, cure in (*_CHECKS, *(_CHECKS_OF_AN_AUTHORITY if authority else ())):
        ((wrong,),) = connection.execute(query)
        if wrong:
            if repair:
                connection.execute(cure)
            yield what
