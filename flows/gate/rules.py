"""What follows from an interval: shown, shown not to be, or not enough data to tell.

question                    passed                              failed           inconclusive
better by at least m        low > 0 and value >= m              high < m         else
worse by at most m          low > -m                            high < -m        else
at least a floor f          low >= f                            high < f         else

verdict                     every check passed                  any check failed else
"""

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Literal

from flows.gate.resampling import Difference

Outcome = Literal["passed", "failed", "inconclusive"]


def superiority(found: Difference, minimum: float) -> Outcome:
    """Judge whether a difference is above 0 and as large as ``minimum``."""
    if found.low > 0 and found.value >= minimum:
        return "passed"
    return "failed" if found.high < minimum else "inconclusive"


def non_inferiority(found: Difference, margin: float) -> Outcome:
    """Judge whether a difference is above ``-margin``."""
    if found.low > -margin:
        return "passed"
    return "failed" if found.high < -margin else "inconclusive"


def floor(found: Difference, least: float) -> Outcome:
    """Judge whether a figure is at least ``least``."""
    if found.low >= least:
        return "passed"
    return "failed" if found.high < least else "inconclusive"


def at_most(found: float, limit: float) -> Outcome:
    """Judge a figure that has no interval."""
    return "passed" if found <= limit else "failed"


def verdict(outcomes: Iterable[Outcome]) -> Outcome:
    """Put the checks together."""
    seen = set(outcomes)
    if "failed" in seen:
        return "failed"
    return "inconclusive" if "inconclusive" in seen else "passed"


def detectable(error: float, confidence: float, power: float, minimum: float) -> float:
    """Return the smallest true difference that `superiority` finds with probability ``power``.

    The interval's low end must come to lie above 0, which takes (z of the confidence + z of the power)
    standard errors, and the value at ``minimum`` or above, which takes z of the power above it.

    >>> round(detectable(0.01, 0.95, 0.8, 0.01), 4)  # (1.960 + 0.842) x 0.01
    0.028
    """
    normal = NormalDist()
    reach = normal.inv_cdf(power)
    return max((normal.inv_cdf(0.5 + confidence / 2) + reach) * error, minimum + reach * error)


def queries_for(effect: float, found: Difference, confidence: float, power: float) -> int:
    """Return how many such queries it takes to find a true difference of ``effect`` with probability ``power``."""
    normal = NormalDist()
    per_query = found.error * math.sqrt(found.queries)  # an error falls with the root of the queries
    wanted = (normal.inv_cdf(0.5 + confidence / 2) + normal.inv_cdf(power)) * per_query / effect
    return max(2, round(wanted * wanted))
