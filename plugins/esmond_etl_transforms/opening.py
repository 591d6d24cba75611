"""What the transforms of histograms do about values that are not histograms."""

import pyarrow as pa

from esmond_etl import Batch, ConfigError, SourceError, Transform


def opened(batch: Batch, transform: Transform) -> Batch | None:
    """The batch with its histograms as map<string, int64>; None if its values are not histograms.

    Raises ConfigError if they are not, although the transform's `event_types` names them; SourceError if one is invalid.
    """
    series = batch.series
    if series.data_type == "histogram":
        try:
            result = batch.opened()
        except ValueError as error:
            raise SourceError(str(error)) from None
        if pa.types.is_map(result.val.type):
            return result
    if transform.event_types is not None and series.summary.type != "statistics":
        raise ConfigError(
            f"{series}: {type(transform).__name__} works on histograms, and these values are none: "
            f"take {series.event_type!r} out of its event_types"
        )
    return None
