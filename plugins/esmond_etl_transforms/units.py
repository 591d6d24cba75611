"""Units of measured values, and conversions between them."""

from typing import Final, Literal

Unit = Literal[
    "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "B/s", "kB/s", "MB/s", "GB/s",
    "ns", "us", "ms", "s", "min", "h",
    "bits", "bytes", "kB", "MB", "GB", "KiB", "MiB", "GiB",
    "ratio", "percent", "ppm",
    "packets", "kpackets",
    "hops",
]  # fmt: skip

#: Units of one kind, each with its size in the smallest of them.
KINDS: Final[tuple[dict[str, int], ...]] = (
    {
        "bit/s": 1,
        "kbit/s": 10**3,
        "Mbit/s": 10**6,
        "Gbit/s": 10**9,
        "Tbit/s": 10**12,
        "B/s": 8,
        "kB/s": 8 * 10**3,
        "MB/s": 8 * 10**6,
        "GB/s": 8 * 10**9,
    },
    {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9},
    {
        "bits": 1,
        "bytes": 8,
        "kB": 8 * 10**3,
        "MB": 8 * 10**6,
        "GB": 8 * 10**9,
        "KiB": 8 * 2**10,
        "MiB": 8 * 2**20,
        "GiB": 8 * 2**30,
    },
    {"ppm": 1, "percent": 10**4, "ratio": 10**6},
    {"packets": 1, "kpackets": 10**3},
    {"hops": 1},
)


def factor(unit: str, to: str) -> tuple[int, int] | None:
    """The factor and the divisor that convert a value in `unit` to `to`; None if that is impossible."""
    for sizes in KINDS:
        if unit in sizes and to in sizes:
            return sizes[unit], sizes[to]
    return None
