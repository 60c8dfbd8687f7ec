"""The rules that keep the project's shape, enforced: one graph, one place for paths and params, one-way imports."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from components.settings import Section

ROOT = Path(__file__).parent.parent
SHARED = {
    "settings", "stage", "inputs", "tables", "store", "increments", "code", "containers", "device", "hub", "media", "modalities", "pages",
    "plot_style", "sound_graph", "syntax", "taxonomy",
}  # fmt: skip
USES_MODEL = {"training", "evaluation", "indexing"}
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())


def body(stage: str) -> dict[str, Any]:
    """The definition of a stage; that of each item, for a `foreach` stage."""
    definition: dict[str, Any] = STAGES[stage]
    return definition.get("do", definition)  # type: ignore[no-any-return]


def paths(entries: list[Any]) -> set[str]:
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def outputs(stage: str) -> set[str]:
    return paths(body(stage).get("outs", [])) | paths(body(stage).get("metrics", []))


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_file(module: str) -> Path | None:
    """The first-party file or package a dotted name stands for."""
    base = ROOT / Path(*module.split("."))
    if base.with_suffix(".py").is_file():
        return base.with_suffix(".py")
    return base / "__init__.py" if (base / "__init__.py").is_file() else None


def reached(*starts: Path) -> set[Path]:
    """These files and every file of components/ that they import, directly or through others, with its packages."""
    todo = list(starts)
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            names = [name for name in imported(path) if name.split(".")[0] == "components"]
            parts = [".".join(name.split(".")[: at + 1]) for name in names for at in range(name.count(".") + 1)]
            todo += [file for part in parts if (file := module_file(part))]
    return seen


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


# -- one component = one folder = one stage = one section = one test folder ----------------------


def test_folders_stages_sections_and_tests_bear_the_same_names() -> None:
    folders = {path.parent.name for path in (ROOT / "components").glob("*/__main__.py")}
    assert folders == set(STAGES)
    assert set(PARAMS) == folders | {"encoder"}, "the model has a section and no stage of its own"
    assert folders | {"encoder"} <= {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_own_component(stage: str) -> None:
    assert body(stage)["cmd"].split()[:3] == ["python", "-m", f"components.{stage}"]
    assert stage in body(stage)["params"]


# -- the graph exists once -----------------------------------------------------------------------


def test_no_flow_repeats_the_name_of_a_data_stage() -> None:
    # register.py and the reports read results, not the graph; none of them lists the stages.
    # But for the one view that gives each file a name: it says which stage's argument a file is.
    for path in set(python_files("flows")) - {ROOT / "flows/workspace/files.py"}:
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert len(words & set(STAGES)) < 4, f"{path} lists the stages again: {words & set(STAGES)}"


# -- paths exist once ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_and_output_is_an_argument_and_the_reverse(stage: str) -> None:
    words = set(re.findall(r"(?:data/|\$\{item\.rows\}|\$\{corpus\.source\})\S*", body(stage)["cmd"]))
    declared = {path for path in paths(body(stage)["deps"]) | outputs(stage) if not path.startswith("components")}
    working = {word for word in words if word.endswith(("-cache", "-checkpoints", "-journal.jsonl"))}
    folders_behind_tables = {"data/corpus/media", "data/corpus/seed"} if stage == "ingest" else set()
    assert words - working == declared - folders_behind_tables


def test_no_component_knows_where_the_workspace_keeps_files() -> None:
    for path in python_files("components"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                assert not node.value.startswith("data/"), f"{path}:{node.lineno} names {node.value}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_main_only_reads_calls_and_writes(stage: str) -> None:
    tree = ast.parse((ROOT / "components" / stage / "__main__.py").read_text())
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    imports = (ast.Import, ast.ImportFrom)
    work = [
        s
        for s in main.body
        if not isinstance(s, imports) and not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
    ]
    assert len(work) <= 8, f"components/{stage}/__main__.py does {len(work)} things; move some into the component"


# -- params exist once ---------------------------------------------------------------------------


def sections(annotation: Any) -> Iterator[type[Section]]:
    """Every section class inside an annotation, unions and nested sections too."""
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list, dict):
        for argument in get_args(annotation):
            yield from sections(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        assert issubclass(annotation, Section), f"{annotation} is not a Section"
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)


def test_every_key_is_required_documented_and_frozen() -> None:
    params = importlib.import_module("components.params")
    found = set(sections(params.Params))
    assert len(found) >= len(PARAMS)
    for section in found:
        assert section.model_config["frozen"] and section.model_config["extra"] == "forbid", section
        for name, field in section.model_fields.items():
            if section is params.Params:
                continue
            assert field.is_required(), f"{section.__name__}.{name} has a default: params.yaml is the one place"
            assert field.description, f"{section.__name__}.{name} has no docstring"


def test_a_stage_is_watched_for_its_own_sections_only() -> None:
    for stage in STAGES:
        assert set(body(stage)["params"]) <= {stage, "encoder"}
        if "encoder" in body(stage)["params"]:
            assert stage in USES_MODEL


def test_a_stage_never_reads_the_environment() -> None:
    # But for the key of a server, which must stand in no file, and what a launcher tells its workers.
    may = {ROOT / "components" / name for name in ("captioning/endpoint.py", "training/world.py")}
    for path in set(python_files("components")) - may:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "getenv":
                pytest.fail(f"{path}:{node.lineno} reads the environment")
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                assert ast.unparse(node.value) != "os.environ", f"{path}:{node.lineno} reads the environment"
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "os.environ.get", f"{path}:{node.lineno} reads the environment"


# -- dependencies cover imports ------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_a_stage_reaches_is_a_dependency_of_it(stage: str) -> None:
    deps = {path for path in paths(body(stage)["deps"]) if path.startswith("components")}
    files = {str(path.relative_to(ROOT)) for path in reached(*python_files(f"components/{stage}"))}
    files -= {"components/__init__.py"}
    covered = {file for file in files if file in deps or any(file.startswith(f"{dep}/") for dep in deps)}
    assert files == covered, f"missing from deps of {stage}: {sorted(files - covered)}"
    named = set(body(stage)["cmd"].split())  # files of ours that the stage is told to read
    unused = {dep for dep in deps - named if not any(file == dep or file.startswith(f"{dep}/") for file in files)}
    assert not unused, f"deps of {stage} that nothing imports: {sorted(unused)}"


def test_every_file_of_a_component_is_reached() -> None:
    mains = [path for path in python_files("components") if path.name == "__main__.py"]
    packages = [main.with_name("__init__.py") for main in mains]
    used = reached(*mains, *packages, *python_files("flows", "research"))
    idle = {str(path.relative_to(ROOT)) for path in python_files("components") if path not in used}
    assert not idle, f"no stage, flow or study imports {sorted(idle)}: use it or remove it"


# -- kept results follow their code ---------------------------------------------------------------


def test_no_kept_result_depends_on_a_number_that_somebody_must_raise() -> None:
    for path in python_files("components"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assert not re.search(r"VERSIONS?$", node.id), f"{path}:{node.lineno}: use components.code.code_digest"


def test_modules_are_imported_by_names_that_can_be_followed() -> None:
    for path in python_files("components"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                assert ast.unparse(node.func).endswith("import_module"), f"{path}:{node.lineno}"
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno} imports a name that is computed"


def test_every_data_file_is_named_by_the_module_that_reads_it_or_is_an_argument() -> None:
    told = set(" ".join(body(stage)["cmd"] for stage in STAGES).split()) | {PARAMS["corpus"].get("source", "")}
    for path in (ROOT / "components").rglob("*"):
        if path.is_dir() or path.suffix in (".py", ".pyc") or path.name == "py.typed":
            continue
        name = path.relative_to(ROOT).as_posix()
        weights = PARAMS["captioning"].get("model", "")  # a folder, all of whose files are digested
        words = {
            node.value
            for beside in path.parent.glob("*.py")
            for node in ast.walk(ast.parse(beside.read_text()))
            if isinstance(node, ast.Constant)
        }
        # What a template extends or includes is read with it.
        words |= {
            f for page in (ROOT / "components").rglob("*.html") for f in re.findall(r'"([\w.]+)"', page.read_text())
        }
        assert name in told or path.name in words or name.startswith(f"{weights}/"), f"{name}: no digest covers it"


# -- imports go one way --------------------------------------------------------------------------


def test_components_import_only_themselves_the_shared_modules_and_the_model() -> None:
    for path in python_files("components"):
        own = path.relative_to(ROOT / "components").parts[0].removesuffix(".py")
        for name in imported(path):
            head, *rest = name.split(".")
            assert head != "flows", f"{path} imports {name}"
            if head == "components" and rest and own != "params":
                allowed = SHARED | {own} | ({"encoder"} if own in USES_MODEL else set())
                assert rest[0] in allowed, f"{path} imports {name}"


def test_shared_modules_import_only_shared_modules() -> None:
    for name in SHARED:
        base = ROOT / "components" / name
        for path in base.glob("*.py") if base.is_dir() else [base.with_suffix(".py")]:
            for module in imported(path):
                if module.startswith("components."):
                    assert module.split(".")[1] in SHARED, f"{path} imports {module}"


# -- flows: topics in an order, no circle anywhere -----------------------------------------------

# From the ground up. A topic may know what stands on the lines above it here, never what stands below or beside it.
ORDER = (
    ("errors", "streams"),
    ("environment", "policy"),
    ("workspace",),
    ("annotations", "ledger"),
    ("registry",),
    ("release",),
    ("gate",),
    ("drift", "lineage"),
    ("registration",),
    ("share",),
    ("retrain",),
    ("monitor",),
    ("deploy",),
    ("commands",),
    ("cli",),
)
FLOOR = {topic: floor for floor, topics in enumerate(ORDER) for topic in topics}
PACKAGES = ("components", "flows", "service", "infra", "research")


def modules(*tops: str) -> dict[str, Path]:
    """Dotted name to file, of every module below the folders that exist."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in python_files(*tops)
    }


def import_graph(*tops: str) -> dict[str, set[str]]:
    """Module to the first-party modules that it imports, at its top, in a function or for types only."""
    known = modules(*tops)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        wanted = set(imported(path))
        # `from a.b import c` names a.b and a.b.c; where c is a module, a.b is only its folder.
        folders = {one.rpartition(".")[0] for one in wanted if one in known}
        graph[name] = {one for one in wanted if one in known and one != name and one not in folders}
    return graph


def test_every_topic_of_flows_has_its_place_in_the_order() -> None:
    topics = {name.split(".")[1] for name in modules("flows") if "." in name}
    assert topics == set(FLOOR)


def test_a_topic_imports_only_topics_below_it() -> None:
    for name, others in import_graph("flows").items():
        if "." not in name:
            continue
        own = name.split(".")[1]
        for other in others:
            topic = other.split(".")[1]
            assert topic == own or FLOOR[topic] < FLOOR[own], f"{name} imports {other}: {own} stands below {topic}"


def test_no_files_import_each_other_in_a_circle() -> None:
    import networkx as nx  # type: ignore[import-untyped]

    graph = nx.DiGraph([(name, other) for name, others in import_graph(*PACKAGES).items() for other in others])
    circles = [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]
    assert circles == []


def test_production_imports_nothing_of_the_study() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in python_files("components", "flows", "service", "infra")
        if any(name.split(".")[0] == "research" for name in imported(path))
    }
    assert importers == {"flows/commands/compute.py"}, "only the command that runs the study, when it is asked for"
    at_its_top = ast.parse((ROOT / "flows/commands/compute.py").read_text()).body
    assert not any(
        "research" in ast.unparse(node) for node in at_its_top if isinstance(node, ast.Import | ast.ImportFrom)
    )


def test_few_files_lie_on_top_of_flows() -> None:
    assert len(list((ROOT / "flows").glob("*.py"))) <= 8


# -- files are replaced, not written into ---------------------------------------------------------


def test_what_is_written_in_place_is_made_ones_own_first() -> None:
    for path in python_files("components"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        owns = any(ast.unparse(call.func).endswith("own_file") for call in calls)
        for call in calls:
            said = ast.unparse(call)
            opens = ast.unparse(call.func).rpartition(".")[2] in ("open", "memmap", "open_memmap", "load")
            if opens and re.search(r"'([arw]\+?b?\+|ab?)'|'[r]?b?\+b?'|O_APPEND|O_RDWR|O_WRONLY", said):
                assert owns, f"{path}:{call.lineno} writes into a file that another workspace may share: stage.own_file"


# -- nothing is pickled --------------------------------------------------------------------------


def test_nothing_is_pickled() -> None:
    for path in python_files("components", "flows"):
        assert not {"pickle", "cloudpickle", "joblib", "dill"} & {name.split(".")[0] for name in imported(path)}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
                assert ast.unparse(node.value) == "False", f"{path}:{node.value.lineno} sets {node.arg}"
