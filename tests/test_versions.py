"""The oldest versions that tools/versions.py tests are all that pyproject.toml sets."""

import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tools" / "versions.py"
if not SCRIPT.exists():
    pytest.skip("tools/versions.py is in the source repository only", allow_module_level=True)
TOOL = runpy.run_path(str(SCRIPT))
bounds = TOOL["bounds"]


def project(*requirements, **extras):
    return {"dependencies": list(requirements), "optional-dependencies": extras}


def test_are_the_lower_bounds_of_what_is_asked_for():
    table = project("a-b>=1.2", "c", one=["own[two,three]", "d[e,f]>=2", "a-b>=1.2"], two=["g>=3"])
    assert bounds(table, []) == {"a-b": "1.2"}
    assert bounds(table, ["one"]) == {"a-b": "1.2", "d": "2"}
    assert bounds(table, ["one", "two"]) == {"a-b": "1.2", "d": "2", "g": "3"}


@pytest.mark.parametrize("text", ["a<2", "a>=1,<2", "a==1", "a>=1; python_version<'3.12'"])
def test_another_kind_of_requirement_is_refused(text):
    with pytest.raises(ValueError, match="expected 'name'"):
        bounds(project(text), [])


def test_two_bounds_of_one_name_are_refused():
    with pytest.raises(ValueError, match="a>=2 and a>=1"):
        bounds(project("a>=1", one=["a>=2"]), ["one"])


def test_nothing_that_the_package_or_an_extra_needs_is_without_one():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = table["optional-dependencies"]
    assert optional["test"][0] == f"skfairft[{','.join(TOOL['EXTRAS'])}]"
    needed = [*table["dependencies"], *(text for e in TOOL["EXTRAS"] for text in optional[e])]
    assert len(bounds(table, TOOL["EXTRAS"])) == len(needed)
