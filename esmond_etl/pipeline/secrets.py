"""Values from outside the pipeline file: environment variables and files."""

from __future__ import annotations

import os
from pathlib import Path

from esmond_etl.model.errors import ConfigError

_FILE = "file:"


def secret(name: str, folder: Path) -> str:
    """The value of `${name}`.

    A name is that of an environment variable, or of a file among the credentials from systemd
    (`LoadCredential=`); "file:PATH" is a file, which may end with a line feed, and whose path starts in `folder`. Raises ConfigError,
    "what; what to do", if there is none.
    """
    if name.startswith(_FILE):
        return _read(folder / name.removeprefix(_FILE))
    if name in os.environ:
        return os.environ[name]
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if name and credentials and (Path(credentials) / name).is_file():
        return _read(Path(credentials) / name)
    raise ConfigError(f"the environment has no variable {name}; set it" if name else "${} names no variable; name it")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}; make it readable"
        ) from None
