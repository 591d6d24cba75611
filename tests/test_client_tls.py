"""An archive with a self-signed certificate, as many are."""

import json
import shutil
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from esmond_etl import ArchiveError
from esmond_etl.client.post import MetadataPost, MetadataPostException
from esmond_etl.client.query import ApiConnect, ApiFilters

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")

ENTRY = {"metadata-key": "k", "subject-type": "network-element", "event-types": []}
SUBJECT: dict[str, Any] = {
    "subject_type": "network-element",
    "source": "198.51.100.13",
    "tool_name": "pscheduler/snmpget",
    "measurement_agent": "198.51.100.13",
    "input_source": "router.example.net",
}


class SelfSigned(NamedTuple):
    """Where it is, and the file of its certificate."""

    url: str
    certificate: str


class Archive(BaseHTTPRequestHandler):
    """Lists one metadata, and takes any."""

    def do_GET(self) -> None:
        self._answer(200, [ENTRY])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, ENTRY)

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SelfSigned]:
    """An archive on localhost whose certificate nobody else has signed."""
    folder: Path = tmp_path_factory.mktemp("tls")
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", *made, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield SelfSigned(f"https://localhost:{server.server_address[1]}/", str(folder / "cert.pem"))
    server.shutdown()
    server.server_close()


def keys(url: str, ssl_verify: bool | str) -> list[str]:
    """The metadata that a query finds."""
    filters = ApiFilters()
    filters.ssl_verify = ssl_verify
    return [metadata.metadata_key for metadata in ApiConnect(url, filters).get_metadata()]


def test_a_certificate_is_checked_unless_the_filters_say_otherwise(self_signed: SelfSigned) -> None:
    with pytest.raises(ArchiveError, match="self-signed"):
        keys(self_signed.url, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keys(self_signed.url, False) == ["k"]
    assert keys(self_signed.url, self_signed.certificate) == ["k"]


def test_a_post_checks_it_likewise(self_signed: SelfSigned) -> None:
    with pytest.raises(MetadataPostException, match="self-signed"):
        MetadataPost(self_signed.url, api_key="secret", **SUBJECT).post_metadata()
    for trusted in (False, self_signed.certificate):
        post = MetadataPost(self_signed.url, api_key="secret", ssl_verify=trusted, timeout=5, **SUBJECT)
        assert post.post_metadata().metadata_key == "k"
