"""The tiers: stores of records. Each can be asked and changed alone.

============  ==================  ==========================================  ==========================
tier          module              a record is                                 shared by
============  ==================  ==========================================  ==========================
memory        `memory`            an object in a dictionary                   the threads of a process
JSON lines    `jsonl`             a line in one of 16 shard files             all processes on a directory
SQLite        `sqlite`            a row of a table                            all processes on a file
============  ==================  ==========================================  ==========================

One tier of a cache is its authority, the others are windows on it. Each kind of tier can play either part.

- The authority holds everything. It gives each change the next revision, and keeps the log: the latest change of each
  key in the order of revisions. Removals are kept up to a bound, the floor: a reader behind it starts anew.
- A window is bounded. It keeps the revisions that it is given, and stands at one revision: up to there it has applied
  the log. It never has to hold a record, but each record that it holds must be as the log says at its revision.

Two rules keep that true without a lock across tiers or processes:

1. `follow` applies a stretch of the log only where the window stands at its start.
2. `fill` takes records that were read at one revision only while the window is not past it.

The generation of a record is the revision that it came in with: a decision about one generation is not applied to
another. A retired record is kept and not served. `eviction` decides which record leaves a full tier.

`protocol` says what each method promises, and `registry` makes a tier by its name. `change_log` is the log of a tier
that keeps its index in memory. `directory_lock` says who uses the directory of the second tier.
"""
