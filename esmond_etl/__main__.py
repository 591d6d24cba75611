"""`python -m esmond_etl` is `esmond-etl`."""

from esmond_etl.cli import main

main()
