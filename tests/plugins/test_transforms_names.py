"""`rename` and `tag`: names in the metadata, from the pipeline file or a CSV file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_transforms.rename import Rename
from esmond_etl_transforms.tag import Tag
from pydantic import ValidationError

from esmond_etl import Batch, ConfigError, Context, Metadata, Series

METADATA = Metadata("k", source="198.129.254.30", destination="2001:db8::1", parameters={"ip-tos": "0"})
SERIES = Series(METADATA, "throughput")
SITES = {"198.129.254.30": "Berkeley", "0": "best effort"}


def fields(metadata: Metadata) -> dict[str, Any]:
    return {name: getattr(metadata, name) for name in Metadata.__dataclass_fields__}


def opened(transform: type[Rename] | type[Tag], **options: Any) -> Rename | Tag:
    stage = transform(**options)
    stage.open(Context())
    return stage


def test_rename_replaces_what_has_a_name_and_nothing_else() -> None:
    rename = Rename(fields=["source", "destination", "measurement-agent", "ip-tos", "no-such"], names=SITES)
    (batch,) = rename.apply([Batch.from_points(SERIES, [(1, 2)])])
    assert fields(batch.series.metadata) == fields(replace(METADATA, source="Berkeley", parameters={"ip-tos": "best effort"}))
    assert fields(rename.becomes(SERIES).metadata) == fields(batch.series.metadata)
    assert (batch.series, list(batch.to_points())) == (SERIES, [(1, 2.0)])
    assert fields(Rename(fields=["destination"], names=SITES).becomes(SERIES).metadata) == fields(METADATA)


def test_tag_adds_a_value_or_the_name_for_a_field() -> None:
    tags = [
        Tag(tag="network", value="ESnet"),
        Tag(tag="source-site", field="source", names=SITES),
        Tag(tag="destination-site", field="destination", names=SITES),
        Tag(tag="destination-site", field="destination", names=SITES, default="elsewhere"),
        Tag(tag="agent-site", field="measurement-agent", names=SITES),
        Tag(tag="agent-site", field="measurement-agent", names=SITES, default=""),
    ]
    added = [dict(tag.becomes(SERIES).metadata.parameters.items() - METADATA.parameters.items()) for tag in tags]
    assert added == [
        {"network": "ESnet"},
        {"source-site": "Berkeley"},
        {},
        {"destination-site": "elsewhere"},
        {},
        {"agent-site": ""},
    ]
    (batch,) = tags[0].apply([Batch.from_points(SERIES, [(1, 2)])])
    assert fields(batch.series.metadata) == fields(replace(METADATA, parameters={"ip-tos": "0", "network": "ESnet"}))


def test_names_come_from_a_csv_file_too_and_those_of_the_pipeline_go_first(tmp_path: Path) -> None:
    file = tmp_path / "sites.csv"
    file.write_bytes('\ufeff198.129.254.30 , Berkeley,US\r\n\r\n2001:db8::1,"Zürich, ETH"\n2001:db8::1,"Zürich, ETH"\n'.encode())
    named = opened(Rename, fields=["source", "destination"], csv=str(file)).becomes(SERIES)
    assert named and (named.metadata.source, named.metadata.destination) == ("Berkeley", "Zürich, ETH")
    named = opened(Rename, fields=["source"], csv=str(file), names={"198.129.254.30": "LBL"}).becomes(SERIES)
    assert named and named.metadata.source == "LBL"
    tagged = opened(Tag, tag="site", field="destination", csv=str(file)).becomes(SERIES)
    assert tagged and tagged.metadata.parameters == {"ip-tos": "0", "site": "Zürich, ETH"}


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (None, ": cannot be read: No such file or directory"),
        (b"a,b\nc\n", ":2: a row needs two columns: the value in the metadata, and its name"),
        (b"a,b\nb,c\na,d\n", ":3: 'a' has the name 'b' already, in a row before this one"),
        (b"a,\xff\n", ": not a CSV file in UTF-8: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
        (b'a,"b\n', ": not a CSV file in UTF-8: unexpected end of data"),
    ],
)
def test_a_csv_file_that_is_not_as_it_should_be_is_named(tmp_path: Path, content: bytes | None, mistake: str) -> None:
    file = tmp_path / "sites.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        opened(Rename, fields=["source"], csv=str(file))
    assert str(caught.value) == f"{file}{mistake}"


@pytest.mark.parametrize(
    ("stage", "options", "mistake"),
    [
        (Rename, {"fields": ["source"]}, "no names: give `names`, `csv`, or both"),
        (Rename, {"fields": ["metadata-key"], "names": SITES}, "the metadata-key identifies a series: it cannot be renamed"),
        (Tag, {"tag": "a"}, "give either `value`, or `field` with `names` or `csv`"),
        (Tag, {"tag": "a", "value": "b", "field": "source"}, "give either `value`, or `field` with `names` or `csv`"),
        (Tag, {"tag": "a", "field": "source"}, "no names: give `names`, `csv`, or both"),
        (Tag, {"tag": "source", "value": "b"}, "source is not a parameter but a fixed field: use `rename`"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    stage: type[Rename] | type[Tag], options: dict[str, Any], mistake: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        stage.model_validate(options)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {mistake}"]
