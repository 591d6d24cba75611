"""`python -m esmond_etl_archive`: the command `esmond-etl archive` by itself."""

from esmond_etl_archive.commands import archive

if __name__ == "__main__":
    archive(prog_name="esmond-etl archive")
