"""What is known of the sites that requests go to. Pure; called under the pool's lock.

- `pages`: whose failure a failure is: the proxy's, the page's or the site's.
- `site`: one site. Who is barred from it, who comes back, its rest, and what each proxy achieved there.
- `bans`: for how long one proxy is barred from one site, and which bans have changed and are to be written down.
- `rate_limit`: how often one proxy may come, learnt from the moments at which the site refused it.
- `groups`: which proxies fail together, as those of a network or of a gateway do, and are barred together.
- `networks`: whether a site counts the uses of a network together.
- `group_learning`: what an outcome changes in these two.
- `learning`: what an outcome changes in all of these.

`docs/choosing.md` has the model on one page.
"""
