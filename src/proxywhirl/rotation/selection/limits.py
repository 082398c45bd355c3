"""How much one proxy may be used."""

from __future__ import annotations

from dataclasses import dataclass

from proxywhirl.validation import require_number


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for each proxy; None is no limit.

    Attributes:
        requests_per_second: Uses that may begin in a second, evenly spaced.
        in_flight: Uses at the same time, 1 or more.
        cooldown: Seconds from the end of a use to the next one on the same site; none runs beside it.

    Raises:
        TypeError: A limit is no number.
        ValueError: A limit is not more than 0.
    """

    requests_per_second: float | None = None
    in_flight: int | None = None
    cooldown: float | None = None

    def __post_init__(self) -> None:
        """Refuse what nobody could keep."""
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None:
                require_number(name, value, whole=name == "in_flight", more="; leave it out for no limit")


NO_LIMITS = Limits()
