"""Which proxy serves a request, and what is learnt from how it went. Pure: nothing here waits or touches the system.

===============================  ========================================================================
`pool`, `sticky`, `exclusive`    the three ways to get a lease: any proxy, a session's, an exclusive one
`lease`, `proxy_state`           one use of a proxy; what was learnt of a proxy
`selection`                      which proxies may serve a request, and why the others may not
`strategies`                     which of these serves
`sites`                          what was learnt of a site: bans, its limit by rate, whether it is down
`affinity`                       which proxy a session has, and what processes agree on
`verdicts`                       from a response to the party to blame
`retries`                        whether and when a request is sent again
===============================  ========================================================================

The pool has one lock. The deciding code is called under it, and returns what is still to be done. The ledger, the store
and listeners are called without it.
"""
