"""Every transform explains itself, and its example is one that works."""

from pathlib import Path
from textwrap import dedent

import pytest
from esmond_etl_transforms import esmond_etl_transforms

from esmond_etl import Batch, Transform
from esmond_etl.pipeline.file import load
from esmond_etl.testing import series

TRANSFORMS = esmond_etl_transforms()

HEAD = """
from = 2014-01-01
window = "1d"

[source]
type = "esmond"
url = "https://archive.example.net/"

[[sink]]
type = "stdout"
"""


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_example_of_a_transform_makes_a_pipeline(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(HEAD + dedent(getattr(TRANSFORMS[name], "example")))  # noqa: B009  no field of every transform
    (transform,) = load(file).transforms
    assert type(transform) is TRANSFORMS[name]


@pytest.mark.parametrize("transform", TRANSFORMS.values())
def test_a_transform_and_all_its_options_are_described(transform: type[Transform]) -> None:
    assert transform.__doc__ and transform.__doc__.split("\n")[0].endswith(".")
    assert [name for name, option in transform.model_fields.items() if not option.description] == []


@pytest.mark.parametrize("transform", TRANSFORMS.values())
def test_the_options_that_must_divide_the_window_are_durations_of_the_transform(transform: type[Transform]) -> None:
    assert transform.divides_window == (("period",) if "period" in transform.model_fields else ())


@pytest.mark.parametrize("name", sorted(TRANSFORMS.keys() - {"python"}))
def test_a_transform_shows_offline_which_values_it_makes_of_datapoints_that_are_not_there(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    example = getattr(TRANSFORMS[name], "example")  # noqa: B009  no field of every transform
    file.write_text(HEAD + dedent(example).replace("198.129.*", "192.0.2.*"))
    (transform,) = load(file).transforms
    batch = Batch.from_points(series((transform.event_types or ["throughput"])[0]), [])
    (made,) = transform.apply([batch])
    assert (len(made), made.is_json, getattr(transform, "tried_offline", False)) == (0, name == "merge_histograms", True)
