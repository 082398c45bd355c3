"""Bans, sessions and exclusive holds: kept in state, shared by all processes of a home.

They are of two kinds:

- Findings: bans, and when a session was used. The pool waits for nothing. Ten times a second `Knowledge` collects them
  from the pool and writes them (`save`), and hands over those of others (`follow`).
- Agreements: the proxy of a session, and the holder of an exclusive lease. The pool asks for one when it needs it;
  `Knowledge` is its `Ledger`, and each agreement is one transaction.

A store that cannot be read or written fails no request:

=================================  =============================================================================
what                               while the store is sick
=================================  =============================================================================
a ban, a use of a session          waits in `write_buffer`, up to a bound, and is written when the store is well
a ban that others found out        is read when the store is well
a session that asks for its proxy  gets it by what is known here; the first one that is written stands
a hold that is asked for           is refused by a `TierError`: without the store there is no agreement
a hold that is freed               ends when its time is over
=================================  =============================================================================

The store is left alone for 1 second after a failure, then 2, up to 30; reading and writing have a wait each.

`records` says how each kind is written and merged, `follower` reads from where it last stopped, `write_buffer` keeps
what waits, `shared` puts them together.
"""

from proxywhirl.knowledge.shared import Knowledge

__all__ = ["Knowledge"]
