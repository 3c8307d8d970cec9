"""The floors of the house: imports go down or stay level, never up and never round in a circle."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from distill.methods.registry import builtin_methods
from distill.provenance.code import DropTypeOnly

PACKAGE = Path(__file__).parents[2] / "workflow" / "distill"
FLOORS = (
    {
        "errors",
        "files",
        "startup",
        "records",
        "checkpoints",
        "markdown",
        "command",
        "seeds",
        "concepts",
        "stopping",
        "sealed_files",
        "launch",
        "lease",
        "meeting",
        "pieces",
        "progress",
        "slurm",
    },
    {"config"},
    {"metrics", "losses", "planning", "remote"},
    {"models"},
    {"data"},
    {"candidates", "sampling", "judging", "evaluation"},
    {"rollouts"},
    {"training"},
    {f"methods.{name}" for name in builtin_methods()},
    {"methods"},
    {"study"},
    {"report"},
    {"pages"},
    {"audit"},
    {"publish"},
    {"__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
BESIDE = "provenance"
HEAVY = {"torch", "transformers", "vllm", "deepspeed"}


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Returns the package's modules that a file imports, by statement or by name, wherever; types do not count."""
    found = set()
    for node in ast.walk(DropTypeOnly().visit(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node) == "iter_modules(__path__)":
            package = ".".join(("distill", *path.parent.relative_to(PACKAGE).parts))
            found |= {module for module in modules if module.rpartition(".")[0] == package}
        elif isinstance(node, ast.Constant) and node.value in modules - {
            "distill"
        }:  # loaded by name: a module, or the packages of one
            packages = {module.rpartition(".")[0] for module in modules}
            found |= {node.value, *(name for name in packages if name.rpartition(".")[0] == node.value)}
    return found & modules - {"distill"}


def import_graph() -> dict[str, set[str]]:
    """Returns {module: modules of the package that it imports}; `from package import module` names the module alone."""
    files = {
        ".".join(("distill", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    return {module: imports_of(path, set(files)) - {module} for module, path in files.items() if module != "distill"}


GRAPH = import_graph()


def room(module: str) -> str:
    """Returns the room of a module; each method is one."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if ".".join(parts[:2]) in FLOOR else parts[0]


def test_every_room_has_a_floor():
    assert {room(module) for module in GRAPH} == {*FLOOR, BESIDE}
    assert sum(map(len, GRAPH.values())) > 100


def test_no_module_imports_from_a_higher_floor():
    upward = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if room(module) != BESIDE and room(other) != BESIDE and FLOOR[room(other)] > FLOOR[room(module)]
    ]
    assert upward == []


def test_provenance_stands_on_the_lowest_floors_and_no_logic_on_it():
    rooms = {(room(module), room(other)) for module, others in GRAPH.items() for other in others}
    assert {other for here, other in rooms if here == BESIDE} <= {BESIDE, *FLOORS[0], *FLOORS[1]}
    assert {here for here, other in rooms if other == BESIDE} <= {BESIDE, "audit", "publish", "__main__"}


def test_there_are_no_import_circles():
    TopologicalSorter(GRAPH).prepare()
    rooms: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        rooms.setdefault(room(module), set()).update(room(other) for other in others if room(other) != room(module))
    TopologicalSorter(rooms).prepare()


def test_no_room_is_a_house():
    lines: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(("distill", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        if module != "distill":
            lines[room(module)] = lines.get(room(module), 0) + len(path.read_text(encoding="utf-8").splitlines())
    assert {name: share for name, own in lines.items() if (share := own / sum(lines.values())) > 0.15} == {}


def test_the_low_floors_and_the_light_rooms_load_no_heavy_library():
    """Their stages run in an environment without torch."""
    light = {*FLOORS[0], *FLOORS[1], BESIDE, "metrics", "judging", "evaluation", "study", "planning"}
    light |= {"report", "pages", "audit", "publish"}
    single = {f"distill.models.{name}" for name in ("folders", "vocabulary", "external", "locate")}
    single |= {"distill.methods.registry", *(f"distill.methods.{name}" for name in builtin_methods())}
    modules = sorted(module for module in GRAPH if room(module) in light or module in single)
    code = f"import sys, {', '.join(modules)}; print({HEAVY} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "set()"


def test_the_command_line_starts_without_the_libraries_of_models():
    """The environment for audits lacks them."""
    code = f"import sys, distill.__main__; print({HEAVY | {'safetensors', 'tokenizers'}} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "set()"
