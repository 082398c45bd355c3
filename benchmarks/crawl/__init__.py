"""A crawl of a site on which some pages fail for everybody, through proxies that are all well.

- `site` is the site: a web server whose pages work or fail, each in its own way. It counts the tries of each page.
- `ground` starts what stands between: a fleet of proxies, a home that knows them, a gateway in a process of its own.
- `crawler` asks for the pages in a given order, so many at once, through the gateway or with the library's client.
- `cells` measures one crawl against the same one without failing pages, and has the floors.
- `scripts` has three short courses of requests that once went wrong.
- `report` shows the figures.
- `__main__` chooses what is measured, prints a line for each and writes the results.
"""
