"""What the transforms of numbers do about values that are not numbers."""

import pyarrow as pa

from esmond_etl import Batch, ConfigError, Transform


def are_numbers(batch: Batch, transform: Transform) -> bool:
    """Whether the values are numbers, perhaps from an earlier transform.

    Raises ConfigError if they are not, although the transform's `event_types` names them.
    """
    if pa.types.is_floating(batch.val.type) or pa.types.is_integer(batch.val.type):
        return True
    if transform.event_types is not None:
        name = batch.series.event_type
        kind = "text" if pa.types.is_string(batch.val.type) and batch.series.holds_numbers else batch.series.data_type
        raise ConfigError(
            f"{batch.series}: {type(transform).__name__} works on numbers, and these values are {kind}: "
            f"take {name!r} out of its event_types"
        )
    return False
