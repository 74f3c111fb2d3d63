"""Run the tests at the oldest versions that pyproject.toml admits, or at the newest there are.

    python tools/versions.py oldest
    python tools/versions.py newest --python python3.13 --torch 2.14.1 tests/test_metrics.py

Either sets up an environment of its own. ``oldest`` pins what the package, its extras and its tests
name to the lower bounds: ``pandas>=2.2.2`` is ``pandas==2.2.2`` there. A bound that was never
released, or that does not go with the others, does not install. What those packages need in turn is
the newest that they take. ``newest`` takes the newest of all that go together.

The tests run as in ``make test``. At the oldest versions a DeprecationWarning is shown and is no
error: those are of old libraries that call newer ones. What of our own calls is deprecated there is
an error at the newest, or gone. Arguments that this script does not know are pytest's. The last
line says what ran: Python, the versions of what the package and its extras name, and pytest's
counts. The exit code is pytest's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The extras whose tests run, and the one that runs them.
EXTRAS = ["card", "distributed", "images", "onnx", "plots"]
TESTS = "test"

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,.-]*\])?(>=(?P<bound>[\w.]+))?")
# One process per core, each with one thread.
PYTEST = ["-q", "--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
SHOWN = ["-W", "default::DeprecationWarning"]


def bounds(project: dict[str, Any], extras: list[str]) -> dict[str, str]:
    """Return the lower bounds that a project sets.

    Parameters
    ----------
    project : dict
        The table ``project`` of pyproject.toml.
    extras : list of str
        Those to heed beside ``dependencies``.

    Returns
    -------
    dict of str to str
        Version by name, without the project itself and without what has no bound.

    Raises
    ------
    ValueError
        For a requirement that is more than a name, its extras and a lower bound, and for two
        bounds of one name.
    """
    optional = project["optional-dependencies"]
    found: dict[str, str] = {}
    for text in [*project["dependencies"], *(text for extra in extras for text in optional[extra])]:
        match = REQUIREMENT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"pyproject.toml requires {text!r}; expected 'name', 'name[extra]' or either with "
                "'>=version'. Write it so, or teach tools/versions.py what its oldest version is."
            )
        name, bound = match["name"], match["bound"]
        if bound is not None and found.setdefault(name, bound) != bound:
            raise ValueError(
                f"pyproject.toml asks for {name}>={bound} and {name}>={found[name]}; expected one "
                "lower bound. Write the higher one in both places."
            )
    return found


def set_up(folder: Path, python: str, pins: list[str]) -> Path:
    """Make an environment and install the package with its tests; return its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    run = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    # Not --quiet, which leaves out which requirements do not go together.
    pip = [run, "-m", "pip", "install", "--progress-bar", "off", "--upgrade"]
    subprocess.run([*pip, "pip"], check=True)
    package = ["--editable", f"{ROOT}[{TESTS}]"]
    subprocess.run([*pip, "--constraint", constraints, *package], check=True)
    return run


def versions(run: Path, names: list[str]) -> str:
    """Return the versions of Python and of packages in an environment, as one line."""
    code = (
        "import platform, sys; from importlib.metadata import version;"
        "print(platform.python_version(), *map(version, sys.argv[1:]))"
    )
    command = [run, "-c", code, *names]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    pairs = zip(["Python", *names], done.stdout.split(), strict=True)
    return ", ".join(f"{name} {version}" for name, version in pairs)


def test(run: Path, arguments: list[str]) -> tuple[int, str]:
    """Run pytest, show what it prints, and return its exit code and its last line."""
    command, last = [run, "-m", "pytest", *PYTEST, *arguments], ""
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip("= \n") or last
    return process.returncode, last


def main() -> int:
    """Run the command line and return pytest's exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("which", choices=["oldest", "newest"])
    parser.add_argument("--python", default=sys.executable, help="default: the one that runs this")
    parser.add_argument("--torch", metavar="VERSION", help="this version of torch instead")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the environment there")
    options, arguments = parser.parse_known_args()
    if options.keep is not None and options.keep.exists():
        parser.error(f"{options.keep} exists; expected a new folder. Name another or remove it.")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = bounds(project, EXTRAS)
    pinned = bounds(project, [*EXTRAS, TESTS]) if options.which == "oldest" else {}
    if options.torch is not None:
        pinned["torch"] = options.torch
    pins = [f"{name}=={version}" for name, version in pinned.items()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary, "environment")
        run = set_up(folder.absolute(), options.python, pins)
        shown = SHOWN if options.which == "oldest" else []
        code, counts = test(run, [*shown, *arguments])
        print(f"{versions(run, list(named))}: {counts}")
    return code


if __name__ == "__main__":
    sys.exit(main())
