"""Whether, when and how a request is tried again, by the gateway and by the library's clients alike. Pure.

`send_policy` says how far a sender goes: the attempts of one request, a budget of retries for all, and who judges
responses. `pursuit` is the loop.

The rules:

- Each proxy is tried at most once in a round, and the request never goes without one.
- Another proxy comes first, without waiting. Only a further round among those that were tried waits, with full jitter.
- Only what is safe is sent again: an idempotent method, what the target has not seen, what the user calls so.
- Nothing is sent again once the client may have seen a byte of the response, or when its body is not held any more.
- No attempt is begun after the deadline, and no more than `RetryPolicy.attempts` are made.
- An attempt that may have burdened the target (it may have seen the request, or is what failed) is followed by another
  one only within the budget. One that failed at the proxy costs the target nothing, nor the budget.
- A response for which another proxy may get a better one is held, as far as it is short. Where no attempt is left, the
  last one is handed on as it came; only where there is none the client gets an error.

After an attempt:

=======================================  ==========================================================
the proxy was gone                       no attempt: another proxy
the client has the response              the end
a ban, held                              another proxy; nothing is waited for any more
a failure                                another proxy
the rules forbid another attempt         the end: the response that is held, else the last failure
=======================================  ==========================================================
"""
