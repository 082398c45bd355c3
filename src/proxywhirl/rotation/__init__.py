"""Which proxy serves a request, and what is learnt from how it went. Pure: nothing here waits or touches the system.

===============================  ========================================================================
`pool`, `sticky`, `exclusive`    the three ways to get a lease: any proxy, that of a session, one alone
`lease`, `proxy_state`           one use of a proxy; what is known of a proxy
`selection`                      who may serve a request, and why the others may not
`strategies`                     who serves of those who may
`sites`                          what is known of where requests go: bans, limits by rate, whether it is down
`affinity`                       which proxy a session has, and what processes agree on
`verdicts`                       from a response to the party to blame
`retries`                        whether and when a request is sent again
===============================  ========================================================================

The pool has one lock. All that decides is called under it, and returns what is still to be done; the ledger, the store
and those who listen are called without it.
"""
