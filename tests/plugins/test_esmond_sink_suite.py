"""The esmond sink passes the suite of all sinks, as far as an archive that never forgets can."""

from pathlib import Path
from typing import Any

import pytest
from esmond_etl_esmond.sink import EsmondSink

from esmond_etl import Context, Sink
from esmond_etl.engine.ledger import Ledger
from esmond_etl.testing import SinkSuite

pytestmark = pytest.mark.slow


class TestEsmondSink(SinkSuite):
    @pytest.fixture(autouse=True)
    def _archive(self, archive: Any, tmp_path: Path) -> None:
        self.archive, self.ledger = archive, tmp_path / "ledger.db"

    def sink(self, tmp_path: Path) -> Sink:
        return EsmondSink(url=self.archive.url, api_key=self.archive.token, backoff=0.01, quiet=1)

    def context(self) -> Context:
        return Context("suite", 4, Ledger(self.ledger).memory("esmond"))
