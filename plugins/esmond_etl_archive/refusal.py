"""What the archive refuses, as its callers hear it."""


class Refused(Exception):
    """A request that the archive does not take; its text is the `detail` of the answer."""

    status = 400  #: of HTTP


class Conflict(Refused):
    """A number is there already at this time."""

    status = 409


class NotFound(Refused):
    """There is no such thing in the archive."""

    status = 404

    def __init__(self) -> None:
        super().__init__("Not found.")
