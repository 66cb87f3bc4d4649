"""The judgement: which pictures came out, what the ledger and the lines say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Ledger states that lossless mode promises never to use.
NOT_LOSSLESS = ("skipped", "late", "lost")


@dataclass(frozen=True, slots=True)
class Order:
    """What a sequence of numbers is, against 0 … expected − 1 once and in order."""

    count: int
    missing: int
    duplicates: int
    #: Numbers that come after a larger one, for the first time.
    reordered: int
    #: Numbers that were never sent: damaged pictures.
    strange: int

    @property
    def whole(self) -> bool:
        return not (self.missing or self.duplicates or self.reordered or self.strange)

    def __str__(self) -> str:
        told = [f"{getattr(self, name)} {name}" for name in self.__slots__[1:] if getattr(self, name)]
        return f"{self.count} came, " + (", ".join(told) or "each once and in order")


def order(shown: Sequence[int], expected: int) -> Order:
    """Judge ``shown``."""
    seen: set[int] = set()
    highest = -1
    duplicates = reordered = strange = 0
    for number in shown:
        if not 0 <= number < expected:
            strange += 1
        elif number in seen:
            duplicates += 1
        else:
            seen.add(number)
            reordered += number < highest
            highest = max(highest, number)
    return Order(len(shown), expected - len(seen), duplicates, reordered, strange)


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement and what was found."""

    what: str
    ok: bool
    #: Told where it is not met.
    found: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.found}" if self.found else self.what


def verdict(checks: Sequence[Check]) -> str:
    """``ok``, or ``FAILED: why`` with each requirement that was not met."""
    failed = [str(check) for check in checks if not check.ok]
    if not checks:
        return "FAILED: nothing was checked"
    return f"FAILED: {'; '.join(failed)}" if failed else "ok"


def ledger_adds_up(entry: Mapping[str, Any] | None) -> Check:
    """Every announced frame is in one final state."""
    what = "the ledger adds up, nothing pending"
    if entry is None:
        return Check(what, False, "there is no ledger")
    states: Mapping[str, int] = entry["states"]
    ok = sum(states.values()) == entry["frames"] and not states.get("pending")
    return Check(what, ok, "" if ok else f"{entry['frames']} frames, {dict(states)}")


def lossless(entry: Mapping[str, Any] | None, failed: Mapping[str, int] | None = None) -> Check:
    """No frame is skipped, late or lost, and exactly those of ``failed`` (reason → count) failed."""
    what = "0 skipped, late or lost" + (f", failed: {dict(failed)}" if failed else ", 0 failed")
    if entry is None:
        return Check(what, False, "there is no ledger")
    states, reasons = entry["states"], entry["reasons"]
    wanted = dict(failed or {})
    ok = (
        not any(states.get(state) for state in NOT_LOSSLESS)
        and states.get("failed", 0) == sum(wanted.values())
        and dict(reasons) == wanted
    )
    return Check(what, ok, "" if ok else f"{dict(states)} {dict(reasons)}")


def complete(shown: Order, what: str = "pictures") -> Check:
    """0 missing, doubled, out of order."""
    return Check(f"{what} each once and in order", shown.whole, "" if shown.whole else str(shown))


def at_most(what: str, value: float | None, limit: float, unit: str) -> Check:
    """``value`` ≤ ``limit``; None is a failure."""
    ok = value is not None and value <= limit
    return Check(f"{what} ≤ {limit:g} {unit}", ok, "" if ok else "never" if value is None else f"{value:.3g} {unit}")


def at_least(what: str, value: float | None, limit: float, unit: str) -> Check:
    """``value`` ≥ ``limit``; None is a failure."""
    ok = value is not None and value >= limit
    return Check(f"{what} ≥ {limit:g} {unit}", ok, "" if ok else "none" if value is None else f"{value:.4g} {unit}")


def rate(arrivals: Sequence[float]) -> float | None:
    """Events a second: the slope of their count over time (least squares), which waits at either end hardly touch.
    None for fewer than three."""
    if len(arrivals) < 3 or arrivals[0] == arrivals[-1]:
        return None
    middle, centre = sum(arrivals) / len(arrivals), (len(arrivals) - 1) / 2
    both = sum((at - middle) * (count - centre) for count, at in enumerate(arrivals))
    return both / sum((at - middle) ** 2 for at in arrivals)


def median(values: Sequence[float]) -> float:
    """The middle one; 0 for none."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0


def flat(series: Sequence[float], share: float) -> Check:
    """The medians of the second and the last quarter of ``series`` differ by at most ``share``."""
    what = f"memory flat ± {share:.0%}"
    if len(series) < 8:
        return Check(what, False, f"only {len(series)} samples")
    quarter = len(series) // 4
    early, late = median(series[quarter : 2 * quarter]), median(series[-quarter:])
    change = late / early - 1 if early else 1.0
    return Check(what, abs(change) <= share, "" if abs(change) <= share else f"{change:+.1%}")
