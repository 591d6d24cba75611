"""The esmond source reaches archives however they are guarded, and offers just what the filters select."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_esmond.sink import EsmondSink
from esmond_etl_esmond.source import EsmondSource
from pydantic import ValidationError

from esmond_etl import ArchiveError, Context, Interval, Stage

LONG_AGO = Interval(1262304000, 1800000000)


def keys(**options: Any) -> list[str]:
    source = EsmondSource.model_validate({"retries": 0, **options})
    source.open(Context())
    try:
        return sorted({series.metadata.key for series in source.series(LONG_AGO)})
    finally:
        source.close()


class Guarded(BaseHTTPRequestHandler):
    """An archive with one metadata."""

    def do_GET(self) -> None:
        body = b'[{"metadata-key": "k", "event-types": [{"event-type": "throughput", "base-uri": "/k/throughput/base"}]}]'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    certificate, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", "-x509", *made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An archive that has signed its certificate itself, and lets in who shows a certificate that it knows."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make_certificate(folder, "server")
    cert, cert_key = make_certificate(folder, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield {"url": f"https://localhost:{server.server_address[1]}/", "ca": certificate, "cert": cert, "cert_key": cert_key}
    server.shutdown()
    server.server_close()


def test_a_client_certificate_opens_a_guarded_archive(guarded: dict[str, str]) -> None:
    assert keys(**guarded) == ["k"]
    assert keys(**{**guarded, "ca": None, "verify": False}) == ["k"]


def test_without_it_the_error_says_so(guarded: dict[str, str]) -> None:
    with pytest.raises(ArchiveError, match=guarded["url"]):
        keys(url=guarded["url"], ca=guarded["ca"])


def test_a_certificate_that_nobody_vouches_for_is_refused_with_the_way_out(guarded: dict[str, str]) -> None:
    with pytest.raises(ArchiveError, match=r'self-signed certificate.*set ca = "FILE", or verify = false'):
        keys(**{**guarded, "ca": None})


def test_an_archive_at_an_ipv6_address_is_read(tmp_path: Path) -> None:
    store = esmond_etl_archive.Archive(tmp_path / "a.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=1, hosts=4))
    with esmond_etl_archive.serve(store, host="::1", token="x") as running:
        every = keys(url=running.url)
        assert len(every) == 19
        found = keys(url=running.url, match={"source": "2001:db8:3::10"})
        assert 0 < len(found) < len(every)
    store.close()


@pytest.mark.parametrize(
    ("event_types", "summaries", "expected"),
    [
        (["throughput"], ["base"], {"throughput/base"}),
        (["throughput"], ["all"], {"throughput/base", "throughput/average/86400"}),
        (["throughput", "packet-loss-rate"], ["average/86400"], {"throughput/average/86400"}),
        (["failures"], ["base"], {"failures/base"}),
    ],
)
def test_event_types_and_summaries_select_series(
    archive: Any, event_types: list[str], summaries: list[str], expected: set[str]
) -> None:
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=1, hosts=2))
    source = EsmondSource(url=archive.url, event_types=event_types, summaries=summaries)
    source.open(Context())
    assert {str(series).split("/", 1)[1] for series in source.series(LONG_AGO)} == expected
    source.close()


def test_old_data_is_found_though_it_was_written_just_now_and_no_list_is_cut_at_an_end(archive: Any) -> None:
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=1, hosts=2))
    source = EsmondSource(url=archive.url)
    source.open(Context())
    whole = {str(series) for series in source.series(LONG_AGO)}
    month = {str(series) for series in source.series(Interval(1709510400, 1709510400 + 86400))}
    assert whole == month
    source.close()


@pytest.mark.parametrize("stage", [EsmondSource, EsmondSink])
@pytest.mark.parametrize("host", ["h:port", "h:99999", "...", "arch ive.example.net", "[::1"])
def test_a_host_or_a_port_that_cannot_be_one_is_refused_before_it_is_opened(stage: type[Stage], host: str) -> None:
    with pytest.raises(ValidationError, match="is not the URL of an archive: write https://HOST/"):
        stage.model_validate({"url": f"http://{host}/"})
