"""dlt as its users would: rows as dictionaries, its filesystem destination, Parquet.

python dlt_rows.py URL OUT PAGE EVENT-TYPE...
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

URL, OUT, PAGE, TYPES = sys.argv[1], Path(sys.argv[2]).absolute(), int(sys.argv[3]), sys.argv[4:]
OUT.mkdir(parents=True)
os.environ.update(
    RUNTIME__DLTHUB_TELEMETRY="false",
    RUNTIME__LOG_LEVEL="ERROR",
    DLT_DATA_DIR=str(OUT / "work"),
    DESTINATION__FILESYSTEM__BUCKET_URL=OUT.as_uri(),
    DATA_WRITER__COMPRESSION="zstd",
)

import dlt  # type: ignore[import-not-found]  # noqa: E402
from dlt.sources.helpers import requests  # type: ignore[import-not-found]  # noqa: E402


def pages(uri: str) -> Iterator[list[dict[str, Any]]]:
    start, length = 0, PAGE
    while length == PAGE:
        rows = requests.get(URL + uri, params={"time-start": start, "time-end": 1999999999, "limit": PAGE}).json()
        length = len(rows)
        if rows:
            start = rows[-1]["ts"] + 1
            yield rows


listed = requests.get(f"{URL}/esmond/perfsonar/archive/?limit=100000").json()


def resource(name: str) -> Any:
    columns = {"ts": {"data_type": "bigint"}, "val": {"data_type": "double"}, "metadata_key": {"data_type": "text"}}

    @dlt.resource(  # type: ignore[untyped-decorator]
        name=name.replace("-", "_"), columns=columns, write_disposition="append"
    )
    def rows() -> Iterator[list[dict[str, Any]]]:
        for each in listed:
            for event_type in each["event-types"]:
                if event_type["event-type"] == name:
                    for page in pages(event_type["base-uri"]):
                        for row in page:
                            row["metadata_key"] = each["metadata-key"]
                        yield page

    return rows


pipeline = dlt.pipeline("benchmark", destination="filesystem", dataset_name="out")
pipeline.run([resource(name) for name in TYPES], loader_file_format="parquet").raise_on_failed_jobs()
