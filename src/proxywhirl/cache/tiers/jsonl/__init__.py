"""The tier in JSON lines: append-only sharded files that people and `jq` can read.

Shards. A key belongs in the shard with the number CRC-32(key) mod 16. Each shard is one file, and has an index in
memory: where the last line of each key stands, and what eviction goes by. A record is read from its line when it is
asked for.

Lines. A line is never changed in place: a new one for the same key outdates it. A shard whose lines are mostly
outdated is rewritten into a new file, which replaces the old one by a rename, so that a reader always sees one or the
other.

The mark. `mark.json` holds one line of fixed length: at which revision the writers stand, whether one of them is
busy, and a number that differs from one write to the next. A process that finds the line it knows has nothing to
catch up with, at the price of one system call.

A write, under the lock of the mark:

1. Catch up: index what other processes appended since, file by file.
2. The mark says busy.
3. The lines are appended, each to its shard. If that fails they are cut off again.
4. The mark names the new revision.
5. The index and the log follow; shards that have become wasteful are rewritten.

A process that dies after step 2 leaves lines that are newer than the mark, which is what a window may hold, and a
busy mark, which makes the next writer look at every file. A piece of a line at the end of a file was never
acknowledged: it is cut off.

Damage costs only the damaged lines. They are set aside, whole lines that they run into are found again, and a removal
is kept if its checksum still tells its key. Other changes in a lost line may be missed: so a window goes back to the
revision at which its file was last rewritten and follows the log from there; an authority takes a new revision, and all
readers of its log start anew.

`tier` is the tier, `directory` the shards as one, `shard_file` one of them, `format` the lines as pure functions,
`write_lock` the mark, and `inspect` compares the index with the files.
"""
