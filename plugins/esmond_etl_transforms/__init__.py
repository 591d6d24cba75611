"""Transforms of datapoints: one module per transform; none of them makes a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Transform


@hookimpl
def esmond_etl_transforms() -> dict[str, type[Transform]]:
    """The transforms by the names that pipelines know them by."""
    from esmond_etl_transforms.convert import Convert
    from esmond_etl_transforms.dedupe import Dedupe
    from esmond_etl_transforms.drop import Drop
    from esmond_etl_transforms.histogram_stats import HistogramStats
    from esmond_etl_transforms.merge_histograms import MergeHistograms
    from esmond_etl_transforms.python import Python
    from esmond_etl_transforms.rate_of_change import RateOfChange
    from esmond_etl_transforms.rename import Rename
    from esmond_etl_transforms.resample import Resample
    from esmond_etl_transforms.scale import Scale
    from esmond_etl_transforms.selection import Select
    from esmond_etl_transforms.tag import Tag

    return {
        "select": Select,
        "drop": Drop,
        "dedupe": Dedupe,
        "scale": Scale,
        "convert": Convert,
        "resample": Resample,
        "rate_of_change": RateOfChange,
        "histogram_stats": HistogramStats,
        "merge_histograms": MergeHistograms,
        "rename": Rename,
        "tag": Tag,
        "python": Python,
    }
