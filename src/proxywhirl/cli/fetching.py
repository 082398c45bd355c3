"""`proxywhirl fetch`: take the proxies of the sources into the store."""

from __future__ import annotations

from typing import Any

import click

from proxywhirl.checkups import CheckPlan
from proxywhirl.cli.checking import run_checks
from proxywhirl.cli.options import TEXT, home_option, json_option, open_runtime
from proxywhirl.cli.output import note, print_json, print_table, steps, warn
from proxywhirl.supply import SourceOutcome, SourceReport, Supply

COLUMNS = ("SOURCE", "RESULT", "NEW", "KNOWN", "REJECTED", "ERROR")
EXPENDABLE = ("REJECTED", "KNOWN")


@click.command()
@click.option("--source", "names", metavar="NAME", type=TEXT, multiple=True, help="Only this one; may be repeated.")
@click.option("--due", is_flag=True, help="Only those whose refresh interval has passed.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many new proxies in all.")
@click.option("--check", is_flag=True, help="Then check the new ones, as `proxywhirl check` would.")
@json_option
@home_option
def fetch(names: tuple[str, ...], due: bool, limit: int | None, check: bool, as_json: bool, home: str | None) -> int:
    """Fetch the sources and take in what they offer.

    Fetches all enabled sources, or the named ones. A table shows the result of each; one that fails costs the others
    nothing. The proxies of a source live for the time in its definition. The exit code is 1 if every source failed.
    --json gives one line, and with --check one for each new proxy and one with the sums.
    """
    with open_runtime(home) as runtime:
        if check:
            runtime.checkups.require(CheckPlan())
        reports = _fetched(runtime.supply, names, due=due, limit=limit, quiet=as_json)
        new = [key for report in reports for key in report.keys]
        code = _tell_all(reports, due=due, as_json=as_json)
        if check and new:
            run_checks(runtime, new, CheckPlan(), as_json=as_json)
    return code


def _tell_all(reports: list[SourceReport], *, due: bool, as_json: bool) -> int:
    if as_json:
        print_json(_as_json(reports))
    elif reports:
        print_table(COLUMNS, map(_row, reports), expendable=EXPENDABLE)
    if not reports:
        if due:
            note("proxywhirl: no source is due")
        else:
            warn("proxywhirl: no source is enabled; `proxywhirl sources list`")
        return 0 if due else 1
    if not as_json:
        _tell(reports)
    return 0 if any(report.ok for report in reports) else 1


def _fetched(
    supply: Supply, names: tuple[str, ...], *, due: bool, limit: int | None, quiet: bool
) -> list[SourceReport]:
    total = len(names) or sum(spec.enabled for spec in supply.registry.specs().values())
    done = new = 0
    with steps("fetching", quiet=quiet) as show:
        show(0, total, "")

        def tell(report: SourceReport) -> None:
            nonlocal done, new
            done, new = done + 1, new + report.new
            show(done, total, f"{new} new")

        return supply.fetch(names, limit=limit, due=due, tell=tell)


def _row(report: SourceReport) -> tuple[str, ...]:
    counts = (report.new, report.known, report.rejected)
    return (report.name, report.outcome.value, *map(str, counts), report.error or "")


def _as_json(reports: list[SourceReport]) -> dict[str, Any]:
    totals: dict[str, Any] = {
        name: sum(getattr(r, name) for r in reports) for name in ("new", "known", "rejected", "removed")
    }
    totals["failed"] = sum(not report.ok for report in reports)
    fields = ("name", "outcome", "new", "known", "rejected", "removed", "reason", "error")
    return {**totals, "sources": [{name: getattr(report, name) for name in fields} for report in reports]}


def _tell(reports: list[SourceReport]) -> None:
    """Sum up beside the data."""
    asked = [report for report in reports if report.outcome is not SourceOutcome.SKIPPED]
    failed = sum(not report.ok for report in asked)
    new, known, removed = (sum(getattr(r, name) for r in reports) for name in ("new", "known", "removed"))
    note(f"proxywhirl: {new} new, {known} known already, from {len(asked) - failed} of {len(asked)} sources")
    if removed:
        note(f"{removed} were removed before and stay out; `proxywhirl add` lets one in again")
