"""The options of a connection to an archive: the same for the source and the sink."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from esmond_etl import (
    Backoff,
    CaFile,
    CertFile,
    CheckCertificate,
    Context,
    Duration,
    KeyFile,
    Retries,
    Stage,
    Traffic,
)
from esmond_etl.client.archive import Archive
from esmond_etl.client.pace import Rate, shared
from esmond_etl.client.urls import is_url


class Connection(Stage):
    """An esmond archive."""

    place: ClassVar[tuple[str, ...]] = ("url", "script_alias")
    paths: ClassVar[tuple[str, ...]] = ("ca", "cert", "cert_key")

    url: str = Field(description="URL of the archive's host", examples=["https://archive.example.net/"])
    script_alias: str | None = Field("esmond", description='path before /perfsonar in its URLs; "/" for none')
    username: str | None = Field(None, description="name that the API key belongs to")
    api_key: SecretStr | None = Field(None, description='API key; write "${NAME}" to take it from the environment')
    verify: CheckCertificate = True
    ca: CaFile = None
    cert: CertFile = None
    cert_key: KeyFile = None
    timeout: Duration = Field(60, gt=0, description="time without a byte from the archive after which a request fails")
    retries: Retries = 4
    backoff: Backoff = 0.3
    deadline: Duration | None = Field(
        None, gt=0, description="deadline for a whole request that reads; default: ten times `timeout`"
    )
    largest: int = Field(256 * 2**20, gt=0, description="largest answer in bytes, after decompression")
    follow: list[str] = Field(
        default_factory=list, description="other hosts that the archive's links and redirects may lead to, without credentials"
    )
    rate: Annotated[float, Field(gt=0)] | list[str] | None = Field(
        None,
        description='requests per second at most; or a list of "HH:MM RATE": the rate from that time of the day (UTC) on',
        examples=[5, ["08:00 2", "18:00 unlimited"]],
    )

    _archive: Archive = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _no_alias(cls, values: Any) -> Any:
        """`script_alias = "/"` or "" means no prefix."""
        if isinstance(values, dict) and values.get("script_alias", "x") in ("/", ""):
            return {**values, "script_alias": None}
        return values

    @field_validator("rate")
    @classmethod
    def _is_rate(cls, value: float | list[str] | None) -> float | list[str] | None:
        Rate(value)
        return value

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not is_url(value):
            raise ValueError("is not the URL of an archive: write https://HOST/")
        return value

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        self._archive = Archive(
            self.url,
            script_alias=self.script_alias,
            username=self.username,
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            verify=self.verify,
            ca=self.ca,
            cert=(self.cert, self.cert_key) if self.cert and self.cert_key else self.cert,
            timeout=self.timeout,
            retries=self.retries,
            backoff=self.backoff,
            parallel=context.most or context.parallel,
            adapts=context.most > 0,
            rate=self.rate,
            deadline=self.deadline,
            largest=self.largest,
            follow=self.follow,
            stop=context.stop,
        )

    def share(self, parts: int) -> Self:
        """The same with a share of the rate."""
        return self.model_copy(update={"rate": shared(self.rate, parts)}) if self.rate else self

    def close(self) -> None:
        """Close the connections."""
        self._archive.close()

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._archive.traffic
