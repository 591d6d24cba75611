"""The options of a connection to OpenSearch: the same for the source and the sink."""

from __future__ import annotations

import logging
from threading import Semaphore
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from esmond_etl import (
    Backoff,
    CaFile,
    CertFile,
    CheckCertificate,
    Context,
    Duration,
    KeyFile,
    PluginError,
    Retries,
    Stage,
    Traffic,
)
from esmond_etl.client.urls import is_url
from esmond_etl_opensearch.server import Server


class Connection(Stage):
    """An OpenSearch of perfSONAR 5."""

    place: ClassVar[tuple[str, ...]] = ("url",)
    paths: ClassVar[tuple[str, ...]] = ("ca", "cert", "cert_key")

    url: str | list[str] = Field(
        description="URL of the server, or of several nodes of one cluster",
        examples=["https://archive.example.net/opensearch", ["https://node1:9200", "https://node2:9200"]],
    )
    username: str | None = Field(None, description="user of the server")
    password: SecretStr | None = Field(None, description='its password; write "${NAME}" to take it from the environment')
    verify: CheckCertificate = True
    ca: CaFile = None
    cert: CertFile = None
    cert_key: KeyFile = None
    timeout: Duration = Field(60, gt=0, description="time-out of a request")
    retries: Retries = 6
    backoff: Backoff = 0.5

    _server: Server = PrivateAttr()

    @field_validator("url")
    @classmethod
    def _are_urls(cls, value: str | list[str]) -> str | list[str]:
        for each in [value] if isinstance(value, str) else value:
            if not is_url(each):
                raise ValueError("is not the URL of a server: write https://HOST:9200 or https://HOST/opensearch")
            if urlsplit(each).username is not None:
                raise ValueError("the URL must not contain a user and password: write them as username and password")
        return value

    @model_validator(mode="after")
    def _user_and_password(self) -> Connection:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        try:
            import opensearchpy
        except ImportError:
            raise PluginError("opensearch needs opensearch-py: pip install 'esmond-etl[opensearch]'") from None
        logging.getLogger("opensearch").setLevel(logging.CRITICAL)  # errors say what it would warn of
        urls = [self.url] if isinstance(self.url, str) else self.url
        client = opensearchpy.OpenSearch(
            hosts=[_host(url) for url in urls],
            http_auth=(self.username, self.password.get_secret_value()) if self.username and self.password else None,
            connection_class=opensearchpy.Urllib3HttpConnection,
            serializer=_as_it_is(),
            max_retries=0,
            timeout=self.timeout,
            pool_maxsize=context.parallel,
            **self._tls(urls),
        )
        slots = Semaphore(context.parallel)
        self._server = Server(client.transport, urls[0].rstrip("/"), self.retries, self.backoff, context.stop, Traffic(), slots)

    def _tls(self, urls: list[str]) -> dict[str, Any]:
        if not any(url.startswith("https:") for url in urls):
            return {}
        options = {"ca_certs": self.ca, "client_cert": self.cert, "client_key": self.cert_key}
        return {"verify_certs": self.verify, "ssl_show_warn": False, **{name: each for name, each in options.items() if each}}

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._server.traffic


def _host(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = {"host": parts.hostname, "port": parts.port or (443 if secure else 80), "use_ssl": secure}
    return host | ({"url_prefix": parts.path.strip("/")} if parts.path.strip("/") else {})


def _as_it_is() -> Any:
    """A serializer that changes nothing: bodies and answers are text already, and large."""
    from opensearchpy.serializer import Serializer

    class AsItIs(Serializer):  # type: ignore[misc]
        mimetype = "application/json"

        def dumps(self, data: Any) -> Any:
            return data

        def loads(self, s: str) -> Any:
            return s

    return AsItIs()
