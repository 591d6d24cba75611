"""What a server needs before it can store documents: an index template, and a policy that does not delete them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from esmond_etl_opensearch.server import Server, ServerError


def template_name(stream: str) -> str:
    """The name of the index template for `stream`, a name or a pattern."""
    return stream.strip("*_-.") or "pscheduler"


def policy_name(stream: str) -> str:
    """The name of the policy for `stream`, a name or a pattern."""
    return f"{template_name(stream)}_keep"


#: The index template of perfSONAR 5 for its own data streams.
_TEMPLATE: Final[Mapping[str, Any]] = {
    "data_stream": {},
    "template": {
        "settings": {"index.number_of_shards": 1, "index.number_of_replicas": 0, "index.mapping.total_fields.limit": 2000},
        "aliases": {"pscheduler": {}},
        "mappings": {
            "dynamic_templates": [
                {
                    "histograms": {
                        "match": "histogram",
                        "match_mapping_type": "object",
                        "mapping": {"type": "object", "enabled": False},
                    }
                },
                {"json": {"match": "json", "mapping": {"type": "object", "enabled": False}}},
                {"addresses": {"match": "ip", "match_mapping_type": "string", "mapping": {"type": "ip"}}},
                {"places": {"path_match": "*.geo.location", "mapping": {"type": "geo_point"}}},
            ],
            "properties": {"@timestamp": {"type": "date"}},
        },
    },
}


@dataclass(frozen=True)
class Policy:
    """A policy of index state management."""

    name: str
    priority: int
    deletes: bool


def template_of(server: Server, stream: str) -> str | None:
    """The name of the index template that matches `stream`, a name or a pattern; None if there is none."""
    found = server.ask("GET", "/_index_template")["index_templates"]
    fitting = [
        (each["index_template"].get("priority", 0), each["name"])
        for each in found
        if "data_stream" in each["index_template"]
        and any(_covers(pattern, stream) for pattern in each["index_template"]["index_patterns"])
    ]
    return max(fitting, default=(0, None))[1]


def make_template(server: Server, stream: str) -> None:
    """Create perfSONAR 5's index template for `stream`."""
    server.ask("PUT", f"/_index_template/{template_name(stream)}", {"index_patterns": [stream], "priority": 10, **_TEMPLATE})


def policy_of(server: Server, stream: str) -> Policy | None:
    """The policy for new indexes of `stream`; None if there is none. Raises NotThere if the server has no policies."""
    try:
        found = server.ask("GET", "/_plugins/_ism/policies", size=1000)["policies"]
    except ServerError as error:
        if error.status in (400, 404):
            raise NotThere from None
        raise
    fitting = [
        (template.get("priority", 0), each["policy"])
        for each in found
        for template in each["policy"].get("ism_template") or ()
        if any(_covers(pattern, stream) for pattern in template["index_patterns"])
    ]
    if not fitting:
        return None
    priority, policy = max(fitting, key=lambda each: each[0])
    deletes = any("delete" in action for state in policy["states"] for action in state.get("actions") or ())
    return Policy(policy["policy_id"], priority, deletes)


def make_policy(server: Server, stream: str, priority: int) -> None:
    """Create a policy for `stream` that rolls its indexes over when they are large, and never deletes them."""
    states = [
        {
            "name": "filling",
            "actions": [{"rollover": {"min_primary_shard_size": "30gb"}}],
            "transitions": [{"state_name": "kept"}],
        },
        {"name": "kept", "actions": [], "transitions": []},
    ]
    policy = {
        "description": "History of esmond, which cannot be measured again: kept until somebody deletes it.",
        "default_state": "filling",
        "states": states,
        "ism_template": [{"index_patterns": [stream], "priority": priority}],
    }
    server.ask("PUT", f"/_plugins/_ism/policies/{policy_name(stream)}", {"policy": policy})


class NotThere(Exception):
    """The server has no index state management."""


def _covers(pattern: str, stream: str) -> bool:
    """Whether all names that `stream` matches also match `pattern`."""
    return fnmatchcase(stream.replace("*", "x"), pattern)
