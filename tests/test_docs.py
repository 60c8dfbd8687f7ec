"""What the documents tell people to type works, and what they name is there."""

import ast
import re
import shlex
import subprocess
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.params import check, explain
from components.settings import read_params
from flows.cli import parser
from flows.environment import Environment
from infra import docs_pages

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
OF_TODAY = [path for path in DOCUMENTS if path.name not in ("CHANGELOG.md", "log.md")]  # these two tell of former days
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8"), flags=re.S)
GLOSSED = ("components", "flows")  # each file on top of these has a gloss, not only each folder


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_section_shown_is_accepted(example: str) -> None:
    check(read_params(ROOT / "params.yaml") | yaml.safe_load(example))


# -- the tree in the README ------------------------------------------------------------------------


def tree(text: str) -> dict[str, str]:
    """The gloss of each path in a tree of two levels; folders end in a slash."""
    found: dict[str, str] = {}
    above = ""
    for line in text.splitlines():
        indent, name, gloss = re.fullmatch(r"( *)(\S+)(?: {2,}(\S.*))?", line).groups()  # type: ignore[union-attr]
        assert indent in ("", "  "), f"{line!r}: a third level, or a gloss that starts beside its column"
        above = above if indent else name
        path = above + name if indent else name
        assert path not in found, f"{path} stands twice"
        found[path] = gloss or ""
    return found


def entries(files: list[str]) -> set[str]:
    """What a tree of these files has to name: what lies on top, each folder below it, files where they are glossed."""
    found: set[str] = set()
    for file in files:
        top, *rest = file.split("/")
        found.add(f"{top}/" if rest else top)
        if len(rest) > 1 and not top.startswith("."):
            found.add(f"{top}/{rest[0]}/")
        elif rest and top in GLOSSED and rest[0] not in ("__init__.py", "py.typed"):
            found.add(f"{top}/{rest[0]}")
    return found


def test_a_tree_is_read_with_its_levels() -> None:
    assert tree("a.md   one\nb/     two words\n  c/   three\n  d.py") == {
        "a.md": "one",
        "b/": "two words",
        "b/c/": "three",
        "b/d.py": "",
    }
    assert entries(["a.md", "flows/x.py", "flows/__init__.py", "flows/y/z/w.py", "docs/e.md", ".ci/run"]) == {
        "a.md", "flows/", "flows/x.py", "flows/y/", "docs/", ".ci/",
    }  # fmt: skip


def test_the_tree_in_the_readme_is_the_tree() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    # What a run here has left is its owner's to keep, and no file of the project.
    there = entries([file for file in listed.stdout.splitlines() if file != "dvc.lock" and (ROOT / file).exists()])
    shown = tree(README.split("## What is where\n```\n")[1].split("```")[0].rstrip())
    assert there - set(shown) == set(), "not in README's tree"
    assert set(shown) - there == set(), "in README's tree, but not there"
    assert [path for path, gloss in shown.items() if not gloss] == [], "without a gloss"


# -- links and paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text_of(path), flags=re.S))
    local = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:", link) and not link.startswith("#")]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", OF_TODAY, ids=named)
def test_every_path_named_is_there(path: Path) -> None:
    tops = "benchmarks|components|docs|flows|infra|research|service|tests"
    paths = re.findall(rf"`((?:{tops})/[\w./-]*)`", text_of(path))
    assert [one for one in paths if not (ROOT / one).exists()] == []


# -- commands --------------------------------------------------------------------------------------


def below(one: ArgumentParser) -> dict[str, ArgumentParser]:
    """The parsers of a parser's commands."""
    found = [action.choices for action in one._actions if isinstance(action, _SubParsersAction)]
    return dict(found[0]) if found else {}


def typed(text: str) -> Iterator[list[str]]:
    """The words of each `needledrop` command that a document shows, in a listing or within a sentence."""
    listings = re.findall(r"^```(?:\w*)\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line for listing in listings for line in listing.splitlines()]
    for line in [*lines, *re.findall(r"`([^`]+)`", " ".join(text.split()))]:
        command = re.match(r"(?:\$ )?(?:\S*/)?needledrop ([a-z].*)", line)
        # The list of all commands, and a line of output, are none.
        if command and "|" not in command[1].split("[")[0][:12] and not re.match(r"version \d", command[1]):
            yield shlex.split(command[1].split("#")[0])


@pytest.mark.parametrize("path", OF_TODAY, ids=named)
def test_every_command_shown_exists_with_its_options(path: Path) -> None:
    commands = below(parser())
    for words in typed(text_of(path)):
        for name in words[0].split("|"):
            assert name in commands, f"needledrop {' '.join(words)}"
            options = {option for action in commands[name]._actions for option in action.option_strings}
            asked = {word.strip("[]").split("=")[0] for word in words[1:] if word.strip("[]").startswith("-")}
            assert asked <= options, f"needledrop {' '.join(words)}"


def test_the_readme_lists_every_command() -> None:
    listed = README.split("## The command\n```\nneedledrop")[1].split("```")[0]
    assert sorted(re.findall(r"[a-z-]+", listed)) == sorted(below(parser()))


# -- the site --------------------------------------------------------------------------------------


def test_made_pages_have_every_command_key_and_variable() -> None:
    pages = docs_pages.pages()
    for name in below(parser()):
        assert f"## needledrop {name} {{ #needledrop-{name} }}" in pages["commands.md"]
    assert "| `3` | gate failed |" in pages["commands.md"]
    for row in explain(read_params(ROOT / "params.yaml")):
        heading = f"## {row['key']}\n" if "." not in row["key"] else f"| `{row['key']}` |"
        assert heading in pages["params.md"]
    for name, field in Environment.model_fields.items():
        assert f"| `{field.validation_alias or f'NEEDLEDROP_{name.upper()}'}` |" in pages["environment.md"]
        assert field.description


def test_links_of_the_repository_become_those_of_the_site() -> None:
    assert docs_pages.site_links("[a](docs/log.md#x), [b](../CONTRIBUTING.md), [c](study.md), [d](https://e.org/docs/f.md)") == (
        "[a](log.md#x), [b](contributing.md), [c](study.md), [d](https://e.org/docs/f.md)"
    )  # fmt: skip


def test_the_navigation_names_every_page() -> None:
    def leaves(nav: object) -> Iterator[str]:
        if isinstance(nav, str):
            yield nav
        else:
            for one in nav.values() if isinstance(nav, dict) else nav:  # type: ignore[attr-defined]
                yield from leaves(one)

    nav = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))["nav"]
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | set(docs_pages.pages())
    assert sorted(leaves(nav)) == sorted(pages)


def test_every_public_name_is_there_and_described() -> None:
    names = re.findall(r"^::: (\S+)$", text_of(ROOT / "docs" / "api.md"), flags=re.M)
    assert names
    for name in names:
        *module, attribute = name.split(".")
        file = ast.parse(text_of(ROOT.joinpath(*module).with_suffix(".py")))
        found = {node.name: node for node in file.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert attribute in found and ast.get_docstring(found[attribute]), name


# -- what the documents say of the shape -----------------------------------------------------------


def test_the_order_of_topics_told_is_the_one_that_is_held() -> None:
    told = CONTRIBUTING.split("## The order of topics\n")[1].split("```")[1].strip().splitlines()
    module = ast.parse(text_of(ROOT / "tests" / "test_design.py"))
    held = next(
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    )
    assert [set(line.split("  ")[0].split(", ")) for line in told] == [set(topics) for topics in reversed(held)]


def test_five_limits_stand_in_the_readme_and_lead_to_the_others() -> None:
    lines = README.split("## Limits\n")[1].splitlines()
    assert len(lines) == 5
    assert "(docs/limits.md)" in lines[-1]
