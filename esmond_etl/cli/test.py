"""`esmond-etl test`: the tests in pipeline files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esmond_etl import cli
from esmond_etl.cli import show

if TYPE_CHECKING:
    from esmond_etl.pipeline.tests import Verdict


@click.command(short_help=cli.COMMANDS["test"])
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Send the datapoints of each `[[test]]` in FILE through its transforms, and compare what comes out with what is expected.

    It makes no connection. A difference is shown as a diff: expected lines with a minus, actual lines with a plus.

    \b
    Example, in a pipeline that scales throughput to Gbit/s:
      [[test]]
      name = "throughput comes out in Gbit/s"
      event_type = "throughput"
      points = [[2014-03-01T00:00:00Z, 2500000000]]
      expected = [[2014-03-01T00:00:00Z, 2.5]]

    \b
    Exit codes: 0 if all tests pass, 1 if one does not, 2 if a file is wrong.
    """
    from esmond_etl.pipeline import file as config
    from esmond_etl.pipeline import tests as cases

    pipelines = [config.load(path) for path in files]
    went = {each.file: list(cases.run(each.tests, each.transforms, each.name)) for each in pipelines}
    passed = all(each.passed for verdicts in went.values() for each in verdicts)
    if as_json:
        show.as_json({"passed": passed, "files": {file: [_facts(each) for each in verdicts] for file, verdicts in went.items()}})
    else:
        for file, verdicts in went.items():
            _print(file, verdicts)
    return cli.DONE if passed else cli.INCOMPLETE


def _facts(verdict: Verdict) -> dict[str, object]:
    return {"name": verdict.name, "passed": verdict.passed, "diff": verdict.diff, "error": verdict.error}


def _print(file: str, verdicts: list[Verdict]) -> None:
    for each in verdicts:
        if each.passed:
            continue
        print(f"{file}: {each.name}: " + (each.error or "not what was expected"))
        if each.diff:
            print("".join(f"  {line}\n" for line in each.diff.splitlines()), end="")
    failed = sum(not each.passed for each in verdicts)
    if not verdicts:
        print(f"{file}: no tests: write a [[test]] (esmond-etl test --help)")
    else:
        print(f"{file}: {len(verdicts) - failed} passed, {failed} failed")
