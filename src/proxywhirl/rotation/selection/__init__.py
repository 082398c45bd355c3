"""Which proxies may serve a request, and why the others may not. Pure; every call is made under the pool's lock.

Theory of operation. A choice must cost the same whatever the size of the pool, so nothing is looked for when a request
comes. The obstacles of each proxy are noted when they change:

- for all requests: it is set aside after failures, or at a limit of uses (`availability`). Such a proxy is in no view;
- for some requests: it is banned by the site or cools down from it, opens no tunnels, or is held exclusively. Each of
  these is a table of keys with the time at which it ends; the tables that concern a request are `barred`;
- for one request: it is excluded, or does not fulfil a wish (`filters`).

A view is a strategy over the proxies that are ready and pass one filter (`views`). It is made when the filter is first
asked for, and told of each proxy that comes, leaves or changes. A request is read once (`request_options`), as is the
text that says how the pool chooses (`pool_options`). Then the `chooser` parts these cases:

1. A proxy of the view is admitted: the strategy picks it. Nearly every request ends here.
2. None is, and the pool may give up wishes (`geo`): the same with the next filter.
3. None is, and some are set aside: the one that is due first serves. It does not if it has to rest at the site, or if
   it failed again and again and only the site keeps others from serving.
4. None can: the chooser returns None, and lets one more of each kind be tried. Only then `explain` finds the words and
   the wait for the error, by looking at all proxies: an error may cost more than a choice.

When a lease ends the chooser takes it back, tells the views, and learns: a success or a failure of the proxy changes
its state and availability, one of the site goes to `sites.learning`.
"""
