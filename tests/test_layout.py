"""Rooms: data flows one way, and what is private to a module stays there."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skfairft

PACKAGE = Path(skfairft.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Which rooms each room may look into: those that the data passed before.
LOOKS_INTO = {
    "_version": "",
    "_on_demand": "",
    "inputs": "",
    "preprocessing": "",
    "onnx": "",
    "rows": "inputs",
    "feature_store": "inputs rows",
    "backbone": "inputs rows feature_store onnx",
    "parity": "inputs rows",
    "lowrank": "inputs rows",
    "head": "inputs rows feature_store backbone parity lowrank",
    "solvers": "inputs rows backbone parity lowrank head",
    "summary": "_on_demand inputs backbone parity head solvers",
    "saving": "_version inputs backbone parity lowrank head solvers summary",
    "fitting": "inputs rows backbone parity lowrank head solvers",
    "solving": "inputs parity head solvers fitting",
    "predicting": "inputs rows backbone head fitting",
    "recalibrating": "inputs rows backbone parity head solvers fitting solving",
    "classifier": (
        "inputs rows backbone parity lowrank head solvers summary saving fitting solving "
        "predicting recalibrating"
    ),
    "loading": "backbone saving classifier",
    "compression": "inputs rows feature_store backbone parity lowrank",
    "path": "inputs rows backbone parity head solvers saving fitting classifier",
    "metrics": "inputs parity",
    "distributed": "inputs feature_store backbone",
    "displays": "_on_demand inputs rows backbone parity lowrank summary fitting path metrics",
    "report": (
        "_version inputs backbone parity summary predicting classifier path metrics displays"
    ),
    "datasets": "inputs",
    "cli": "_version inputs parity classifier path metrics displays",
    "__main__": "cli",
    "__init__": (
        "_version _on_demand inputs backbone solvers classifier loading compression path displays "
        "report"
    ),
}

# Libraries that a room must not know, by the prefix of what is imported.
UNKNOWN = {
    "inputs": ("torch.nn",),
    "lowrank": ("sklearn", "skorch"),
    "parity": ("torch.nn", "skorch"),
    "rows": ("sklearn.base", "skorch"),
    "solvers": ("matplotlib", "fairlearn"),
}


def room(module):
    return module.split(".")[0]


def name_of(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


MODULES = {name_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def imports(module):
    """Yield (module or module and name, names) of the imports within the package, wherever."""
    is_package = (PACKAGE / module.replace(".", "/") / "__init__.py").is_file()
    here = [] if module == "__init__" else module.split(".")
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom) and node.level:
            up = node.level - is_package
            base = here[: len(here) - up] if up else here
            base = base if module != "__init__" else []
            names = [alias.name for alias in node.names]
            if node.module:
                yield ".".join([*base, node.module]), names
            else:
                yield from ((".".join([*base, name]), [name]) for name in names)


GRAPH = {
    module: {found if found in MODULES else room(found) for found, _ in imports(module)}
    for module in MODULES
}


def homes(module):
    """Return the modules by name that a package imports on demand; None of other packages."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "on_demand":
            return ast.literal_eval(node.args[1])
    return None


ON_DEMAND = [module for module in MODULES if homes(module) is not None]


@pytest.mark.parametrize("module", ON_DEMAND)
def test_what_is_imported_on_demand_is_what_checkers_of_types_see(module):
    """So what is said here of the imports that they see is true of those on demand."""
    (checked,) = (
        node
        for node in MODULES[module].body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: f".{node.module}" for node in checked.body for alias in node.names}
    assert homes(module) == seen


def test_all_rooms_are_there():
    assert {room(module) for module in MODULES} == set(LOOKS_INTO)


@pytest.mark.parametrize("name", LOOKS_INTO)
def test_a_room_looks_only_into_those_before_it(name):
    seen = {room(found) for module in MODULES if room(module) == name for found in GRAPH[module]}
    assert seen - {name} <= set(LOOKS_INTO[name].split())


def test_rooms_are_in_no_circle():
    flow = {name: before.split() for name, before in LOOKS_INTO.items()}
    assert list(TopologicalSorter(flow).static_order())


def test_modules_are_in_no_circle():
    # A room's face shows what is in it; the files behind it do not look at it.
    assert list(TopologicalSorter(GRAPH).static_order())


@pytest.mark.parametrize("name", [name for name in LOOKS_INTO if (PACKAGE / name).is_dir()])
def test_a_room_says_what_it_is_for(name):
    said = ast.get_docstring(MODULES[name])
    assert said
    assert "ust not know" in said


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_room_does_not_know_what_is_not_its_business(name):
    for module, tree in MODULES.items():
        if room(module) != name:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            elif isinstance(node, ast.Import):
                found = [each.name for each in node.names]
            else:
                continue
            assert not [each for each in found if each.startswith(UNKNOWN[name])], module


def private(name):
    return name.startswith("_") and not name.startswith("__")


def defined(tree):
    """Return the private names that a module makes: its own, and those of its classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if private(name)}


OWN = {module: defined(tree) for module, tree in MODULES.items()}
# Those of torch's modules are no one's here.
ALL_PRIVATE = set.union(*OWN.values()) - {"_modules", "_parameters"}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_reaches_into_another_s_private_names(module):
    reached = [
        f"{found}.{name}"
        for found, names in imports(module)
        for name in names
        if private(name) and f"{found}.{name}" not in MODULES and found not in MODULES
    ]
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Attribute) and private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own and node.attr in ALL_PRIVATE - OWN[module]:
                reached.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert not reached
