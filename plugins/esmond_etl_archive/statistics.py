"""The statistics that an archive makes of a histogram."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

_PERCENTILES = {"percentile-25": 0.25, "median": 0.5, "percentile-75": 0.75, "percentile-95": 0.95}


def statistics(histogram: Mapping[str, int]) -> dict[str, Any]:
    """The statistics of a histogram; none of one that is empty or whose buckets are not all numbers."""
    try:
        pairs = sorted([(float(bucket), count) for bucket, count in histogram.items()])
    except ValueError:
        return {}
    buckets, counts = [bucket for bucket, _ in pairs], [count for _, count in pairs]
    size = sum(counts)
    if size <= 0 or min(counts) < 0 or not math.isfinite(sum(buckets)):
        return {}
    most = max(counts)
    mean = sum([bucket * count for bucket, count in pairs]) / size
    variance = sum([(bucket - mean) ** 2 * count for bucket, count in pairs]) / size  # of the population
    ranks = list(accumulate(counts))
    return {
        "mode": [bucket for bucket, count in pairs if count == most],
        "mean": mean,
        "minimum": buckets[0],
        "maximum": buckets[-1],
        **{name: _percentile(buckets, ranks, part) for name, part in _PERCENTILES.items()},
        "variance": variance,
        "standard-deviation": math.sqrt(variance),
    }


def _percentile(buckets: Sequence[float], ranks: Sequence[int], part: float) -> float:
    """The percentile as NIST defines it: between two neighbours of the sorted sample, at rank p (n + 1)."""
    rank = part * (ranks[-1] + 1)
    below = math.floor(rank)
    at = min(bisect_left(ranks, below), len(buckets) - 1)
    if below == 0 or rank < ranks[at] or at + 1 == len(buckets):
        return buckets[at]
    return buckets[at] + (rank - below) * (buckets[at + 1] - buckets[at])
