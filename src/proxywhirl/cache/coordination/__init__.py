"""How the three tiers work together: reads, promotion, replication, failures.

Theory of operation (`tier_stack` writes and lists, and is where `CacheManager` comes in):

- The lowest enabled tier is the authority. It holds everything, gives each change a revision and keeps the log. The
  durable tier above it is a window, and so is memory (the near cache). A window holds a part, and notes the revision
  up to which it has followed the log.
- A write is decided on and done in one transaction of the authority. Then the windows follow (`replicas`). A single put
  waits for L2 in the promotion queue, and is written there in a batch.
- A read asks the tiers in order and fills those above the one that serves (`reads`). A hit in L1 does not come here.
- Hits are gathered in memory (`near_cache.HitLog`), and written to all durable tiers with a flush.

What a read finds, and what follows (`policy.after_read`):

| found | counts | then |
|---|---|---|
| alive | a miss of each tier above, a hit of this one | each tier above is filled |
| expired | a miss of each tier asked | it is deleted in the authority, and the windows follow |
| retired, or nothing | a miss of each tier asked | nothing |

The states of a tier (`breaker`): well; unwritable (only read); degraded (neither read nor written). It is tried again
with back-off. A window that missed a change is behind, and catches up first. While the authority is away, the window
above it serves, and writes are kept for the authority (`handoff`). A window that outlived its authority, or was the
authority for a time, gives back its records (`reconcile`).

Locks, in the order in which they are taken: one of the loading locks (a load of a key at a time), the writing lock (a
change at a time), the noticing lock, a tier's own (a call at a time; beside a write one read, where the tier allows
it), the near cache's (in memory only). A hit in L1 takes none. A read takes the writing lock only where it is free
(`breaker.in_passing`).
"""
