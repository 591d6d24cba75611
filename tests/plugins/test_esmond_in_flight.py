"""What is known of requests that may still be at work."""

import json
import os
import socket
import time

from esmond_etl_esmond.in_flight import Journal


def test_a_note_counts_even_if_the_process_that_made_it_seems_to_run() -> None:
    """A process that was killed has its id until its parent has taken note; a run that is started at once must not believe it."""
    note = {"host": socket.gethostname(), "parent": os.getppid(), "since": {"k": time.time()}}
    memory = {"in-flight:killed": json.dumps(note)}
    journal = Journal(memory, 1, 60)
    assert journal.is_left("k")
    assert not journal.is_left("another")
    journal.end("k")
    assert memory == {}


def test_what_is_in_flight_is_noted_before_it_is_sent_and_known_to_the_next_process() -> None:
    memory: dict[str, str] = {}
    Journal(memory, 1, 60).begin("k")
    assert Journal(memory, 1, 60).is_left("k")


def test_the_pause_is_several_times_the_slowest_request_and_the_time_out_where_none_is_known() -> None:
    memory: dict[str, str] = {}
    journal = Journal(memory, 1, 60)
    assert journal.grace() == 60
    journal.measure(3)
    assert Journal(memory, 1, 60).grace() == 12
