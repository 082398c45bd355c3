"""The tier in an SQLite file, for the second and the third place.

Tables. `entries` is clustered by revision, so that the log of changes is a range of its primary key and a bulk import
appends; the key has a unique index. Removals stay in `tombstones` up to a bound. `state` is one row: the revision,
the floor of the log and the counts, which each write reads at its beginning and updates at its end. `meta` has the
notes.

A write is one transaction (`BEGIN IMMEDIATE`), so that check and change are one step for all processes. A read takes
the connection that writes where that is free, and another one beside a writer: it waits for nobody.

Eviction goes by columns of each row, and by one index where the tier has a bound (see `eviction`).

Damage. A page that SQLite cannot read, a text that is no text, and a row that makes no sense are one case: the file is
set aside under another name, and all that can be read goes into a new one (`reopen`), without the rows that make no
sense. The authority asks the other tiers for copies of these, in the same revision; all readers of its log start anew.
A window takes nothing over: it is filled again from below.

`get` and `get_many` do not check the record: `peek`, `scan` and each change do.

`tier` is the tier, `file` its transactions and what happens on damage, `schema` the format with its statements, and
`inspect` compares what the file says of itself with what is in it.
"""
