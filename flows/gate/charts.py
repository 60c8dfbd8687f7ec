"""The two drawings of the page: recall by query mode, and the difference by slice."""

from itertools import groupby
from typing import Any

from flows.gate.bars import WIDTH, bar, between, drawing, label, mark, panel
from flows.gate.sides import FUSED

_NAMES = {"video": "video alone", "text": "text alone", FUSED: "video and text"}
_OUTCOME = {True: "good", False: "bad", None: "flat"}


def by_mode(report: dict[str, Any]) -> str:
    """Draw R@10 of both sides by query mode, and beside it their difference with its limit."""
    ours, other = report["challenger"], report["other"]
    modes = [mode for mode in (FUSED, "video", "text") if mode in ours["R@10"]]
    sides = [(ours, "ours"), (other, "theirs")] if other else [(ours, "ours")]
    shown = [
        side["R@10"][mode][end]
        for side, _ in sides
        for mode in modes
        if mode in side["R@10"]
        for end in ("low", "high")
    ]
    apart = report["modes"]
    left = panel(150, 520 if apart else 860, [*shown, report["data"]["chance"]])
    row, top = 62, 34
    bottom = top + row * len(modes)
    parts = [label(150, 18, "R@10: right track among the first ten", "head"), *left.axis(top, bottom)]
    right = None
    if apart:
        limits = [limit for mode in modes if (limit := _limit(report, mode)) is not None]
        right = panel(560, 800, [one[end] for one in apart.values() for end in ("low", "high")] + limits, signed=True)
        parts += [label(560, 18, "Difference in points", "head"), *right.axis(top, bottom)]
    parts.append(mark(left, report["data"]["chance"], top, bottom))
    for at, mode in enumerate(modes):
        middle = top + row * at + row / 2
        parts.append(label(0, middle + 4, _NAMES[mode], "name"))
        for nudge, (side, kind) in zip((-10, 10), sides, strict=False):
            if mode in side["R@10"]:
                found = side["R@10"][mode]
                parts.append(bar(left, middle + nudge, found["value"], found["low"], found["high"], kind))
        if right and mode in apart:
            found, limit = apart[mode], _limit(report, mode)
            ends = found["value"], found["low"], found["high"]
            parts.append(bar(right, middle, *ends, _OUTCOME[_sign(found)]))
            if limit is not None:
                parts.append(mark(right, limit, middle - 20, middle + 20))
            parts.append(label(WIDTH, middle + 4, between(*ends), "figure", "end"))
    return drawing(bottom + 26, parts, "R@10 by query mode with intervals")


def by_slice(report: dict[str, Any]) -> str:
    """Draw the difference in every slice, largest loss at the top of its group."""
    known = [one for one in report["slices"] if one["difference"]]
    # A slice of four queries may be anywhere: the axis is for those that count.
    counted = [one for one in known if one["judged"]] or known
    area = panel(300, 690, [one["difference"][end] for one in counted for end in ("low", "high")], signed=True)
    parts, y = [label(300, 16, "Difference in points, video and text", "head")], 26.0
    body: list[str] = []
    for by, group in groupby(known, key=lambda one: str(one["by"])):
        y += 30
        body.append(label(0, y + 4, by, "group"))
        for one in sorted(group, key=lambda one: float(one["difference"]["value"])):
            y += 26
            found = one["difference"]
            ends = found["value"], found["low"], found["high"]
            kind = _OUTCOME[_sign(found)] if one["judged"] else "unjudged"
            quiet = "" if one["judged"] else " quiet"
            body.append(label(14, y + 4, one["name"], "name" + quiet))
            body.append(label(286, y + 4, f"{one['queries']:,}", "count", "end"))
            body.append(bar(area, y, *ends, kind))
            body.append(label(796, y + 4, f"{one['theirs']:.0%} to {one['ours']:.0%}", "count", "end"))
            body.append(label(WIDTH, y + 4, between(*ends), "figure" + quiet, "end"))
    bottom = y + 18
    parts += [label(286, 16, "queries", "head", "end"), *area.axis(26, bottom)]
    if report["kind"] == "champion":
        parts.append(mark(area, -report["settings"]["margins"]["worst_slice"], 26, bottom))
    return drawing(bottom + 26, [*parts, *body], "Difference of R@10 by slice with intervals")


def _limit(report: dict[str, Any], mode: str) -> float | None:
    """Return what the interval must lie above (video+text: what the gain must reach); None without a gate."""
    if report["kind"] != "champion":
        return None
    settings = report["settings"]
    return float(settings["minimum_effect"] if mode == FUSED else -settings["margins"][mode])


def _sign(found: dict[str, float]) -> bool | None:
    """Tell whether an interval lies above 0, below it, or holds it."""
    if found["low"] > 0:
        return True
    return False if found["high"] < 0 else None
