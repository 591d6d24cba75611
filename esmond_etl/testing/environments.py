"""Separate Python environments, to install plugins in."""

from __future__ import annotations

import os
import site
import subprocess
import sysconfig
import venv
from pathlib import Path


class Environment:
    """A new environment in a folder: what is installed in this one can be imported in it, what is installed in it stays in it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / scripts / "python"
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
        ours = [each for each in (sysconfig.get_path("purelib"), *site.getsitepackages()) if Path(each).is_dir()]
        lines = [f"import site; site.addsitedir({each!r})" for each in dict.fromkeys(ours)]
        (packages / "outer.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def install(self, *projects: Path) -> None:
        """Build and install projects with pip; their dependencies must be installed outside."""
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
        done = self.run("-m", "pip", "install", *options, *map(str, projects))
        if done.returncode:
            raise RuntimeError(f"pip install failed: {done.stderr}")

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python with some arguments; returns its exit code and output."""
        command = [str(self.python), *arguments]
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV"))}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env={**outside, "COLUMNS": "80"}, check=False, timeout=300
        )

    def esmond_etl(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `esmond-etl` in this environment; returns its exit code and output."""
        return self.run("-m", "esmond_etl", *arguments, cwd=cwd)
