"""An action enters few files of the package, and makes few calls there: each is held to a limit.

A limit above its aim is what was reached last. Where a route gets shorter, its limit in `benchmarks.routes` is lowered.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.routes import ROUTES, Route, measure


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_route_is_no_longer_than_its_limit(tmp_path: Path, route: Route) -> None:
    """An action enters no more files, and makes no more calls, than its limit says."""
    length = measure(route, tmp_path)
    assert length.calls > 0
    assert (len(length.files) <= route.limit[0], length.calls <= route.limit[1]) == (True, True), (
        f"{route.name}: {len(length.files)} files and {length.calls} calls, but {route.limit} are allowed; "
        f"`python -m benchmarks.routes --files '{route.name}'` names them"
    )
