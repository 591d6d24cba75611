"""Every datapoint of an OpenSearch with the source of esmond-etl: python read_documents.py URL END."""

import sys

from esmond_etl_opensearch.source import OpenSearchSource

from esmond_etl import Context, Interval

source = OpenSearchSource(url=sys.argv[1])
source.open(Context())
interval = Interval(0, int(sys.argv[2]))
print(sum(len(batch) for series in source.series(interval) for batch in source.read(series, interval)))
