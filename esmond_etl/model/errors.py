"""Every error, one class for each reaction of the caller.

EsmondEtlError
├── ConfigError        a pipeline file or a command line is wrong: correct it
├── LockedError        another run of the pipeline is under way: wait for it
├── PluginError        a plugin is broken, or missing: mend or install it
├── SourceError        a series could not be read: it is not done, the next run reads it again
├── SinkError          a sink did not take a task: the task is not done, the next run delivers it again
├── StoppedError       the run was told to stop: what is in flight is rolled back, the next run delivers it
└── ArchiveError       an archive did not answer as it should
    ├── RequestError   it could not be reached, or broke off: try again later
    ├── StatusError    it answered with an error status; carries the status and its own detail
    └── ContentError   it answered something that is not what was asked for: HTML, broken JSON, a page out of order
"""

from esmond_etl.model.text import printable


class EsmondEtlError(Exception):
    """Base class of the errors of esmond-etl; the text is one sentence for people."""


class ConfigError(EsmondEtlError):
    """A pipeline file or a command line is wrong."""


class LockedError(EsmondEtlError):
    """Another run of the same pipeline is under way."""


class PluginError(EsmondEtlError):
    """A plugin is broken or missing."""


class SourceError(EsmondEtlError):
    """A series could not be read to its end."""


class SinkError(EsmondEtlError):
    """A sink could not store the datapoints that it was given."""


class NotComparableError(SinkError):
    """A target accepts a series but cannot read it back: `verify` skips the series, and says why."""

    def __init__(self, series: object, reason: str) -> None:
        super().__init__(f"{series}: {reason}")
        self.reason = reason  #: true of all such series


class StoppedError(EsmondEtlError):
    """The run was told to stop while this was under way."""


class ArchiveError(EsmondEtlError):
    """An archive answered wrongly or not at all; `url` is the URL of the request."""

    def __init__(self, message: str, url: str) -> None:
        super().__init__(printable(message, one_line=True))  # it may quote what the archive said
        self.url = url

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.url)


class RequestError(ArchiveError):
    """The archive could not be reached, or the connection broke, and retries did not help."""

    def __init__(self, message: str, url: str, timed_out: bool = False) -> None:
        super().__init__(message, url)
        self.reached = True  #: the archive may have received the request
        self.final = False  #: a retry cannot help: TLS, or the URL, is wrong
        self.timed_out = timed_out  #: the archive received the request but did not answer in time: it may still be working on it

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.url, self.timed_out)


class StatusError(ArchiveError):
    """The archive answered with an error status."""

    def __init__(self, message: str, url: str, status: int, detail: str = "") -> None:
        super().__init__(message, url)
        self.status = status  #: of HTTP
        self.detail = detail  #: the reason in the archive's answer, or ""
        self.retry_after = 0.0  #: s that the archive asked to wait

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.url, self.status, self.detail)


class ContentError(ArchiveError):
    """The archive's answer does not have the expected content."""


def described(error: BaseException) -> str:
    """The text of `error` for a person: of our own errors the sentence, of any other the type and the text."""
    if isinstance(error, EsmondEtlError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
