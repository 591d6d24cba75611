"""Requests and bytes exchanged with a server."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Traffic:
    """What a stage has exchanged with a server so far; counted from several threads."""

    requests: int = 0
    received: int = 0  #: bytes, as they came over the wire
    sent: int = 0  #: bytes of the requests' bodies
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, received: int = 0, sent: int = 0) -> None:
        """Add one request."""
        with self._lock:
            self.requests += 1
            self.received += received
            self.sent += sent
