"""Errors of the archive, as its clients see them."""


class Refused(Exception):
    """A request that the archive refuses; its text is the `detail` of the answer."""

    status = 400  #: of HTTP


class Conflict(Refused):
    """There is already a number at this time."""

    status = 409


class NotFound(Refused):
    """The archive does not have it."""

    status = 404

    def __init__(self) -> None:
        super().__init__("Not found.")
