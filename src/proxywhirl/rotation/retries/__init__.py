"""Whether, when and how a request is tried again, by the gateway and by the library's clients alike. Pure.

`send_policy` says how far a sender goes: the attempts of one request, a budget of retries for all, and who judges
responses. `pursuit` is the loop.

The rules:

- Each proxy is tried at most once in a round, and the request never goes without one.
- Another proxy comes first, without waiting. Only a further round with the same proxies waits, with full jitter.
- A request is sent again only if that is safe: its method is idempotent, the target has not seen it, or the user says
  so.
- Nothing is sent again once the client may have seen a byte of the response, or when its body is not held any more.
- No attempt is begun after the deadline, and no more than `RetryPolicy.attempts` are made.
- An attempt that may have burdened the target (it may have seen the request, or it failed) is followed by another one
  only within the budget. An attempt that failed at the proxy costs the budget nothing.
- A response is held, if it is short, while another proxy may get a better one. Where no attempt is left, the last one
  is handed on as it came; without any the client gets an error.

After an attempt:

=======================================  ==========================================================
the proxy was gone                       no attempt: another proxy
the client has the response              the end
a ban, held                              another proxy, if one is free now
a failure                                another proxy
the rules forbid another attempt         the end: the response that is held, else the last failure
=======================================  ==========================================================
"""
