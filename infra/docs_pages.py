"""Pages of the documentation site that nobody writes: made at build time from what they describe.

`mkdocs.yml` names this file as a hook. Commands come from the parser, parameters from the typed sections, the
environment from its settings class; README, CONTRIBUTING, CHANGELOG and SECURITY lie on top of the repository and
become pages of the site, their links mended.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}

_LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")


# -- what mkdocs calls -----------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages to those that mkdocs found in docs/."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make the repository's links hold in the site; a page that is a tab by itself needs no list of pages beside it."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    return site_links(markdown)


# -- the pages -------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Return the Markdown of every made page by its name in the site."""
    made = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in TOP.items()}
    return made | {"commands.md": commands(), "params.md": params(), "environment.md": environment()}


def site_links(markdown: str) -> str:
    """Return Markdown whose links to files on top of the repository, or from there into docs/, are those of the site."""

    def mended(link: re.Match[str]) -> str:
        target = link[1].removeprefix("../").removeprefix("docs/")
        return f"]({TOP.get(target, target)}{link[2] or ''})"

    return _LINK.sub(mended, markdown)


def commands() -> str:
    """Return the page of every command, its arguments and the exit codes."""
    from flows.cli import EPILOG, parser

    root = parser()
    found = list(_commands(root, root.prog))
    codes = [code.split(" ", 1) for code in EPILOG.removeprefix("exit codes: ").split(", ")]
    parts = [
        "# Commands",
        "Made from the parser of `needledrop`; each command prints the same with `--help`.",
        _table(
            ("command", "what it does"), [(f"[`{name}`](#{_anchor(name)})", one.description) for name, one in found]
        ),
        "## Exit codes",
        _table(("code", "meaning"), [(f"`{code}`", meaning) for code, meaning in codes]),
        *(_command(name, one) for name, one in found),
    ]
    return "\n\n".join(parts) + "\n"


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the parsers of what can be typed, by the words that lead there."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, one in action.choices.items():
            yield from _commands(one, f"{name} {word}")


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    rows = [(f"`{_typed(action)}`", (action.help or "") % {**vars(action), "prog": parser.prog}) for action in actions]
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    parts = (
        f"## {name} {{ #{_anchor(name)} }}",
        f"{_sentence(parser.description)}",
        f"```text\n{usage}\n```",
        _table(("argument", "meaning"), rows),
    )
    return "\n\n".join(parts)


def _typed(action: argparse.Action) -> str:
    """Return an argument as it is typed."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = str(action.metavar or choices or action.dest.upper())
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def params() -> str:
    """Return the page of every key of params.yaml, by section."""
    from components.params import explain
    from components.settings import read_params

    sections: dict[str, list[dict[str, Any]]] = {}
    for row in explain(read_params(ROOT / "params.yaml")):
        sections.setdefault(row["key"].split(".")[0], []).append(row)
    parts = [
        "# Parameters",
        "Made from the typed sections; `needledrop doctor --params` prints the same beside your own values. A key that no "
        "section knows is an error. None has a default: the values here are those of the `params.yaml` that comes along.",
    ]
    for name, (head, *keys) in sections.items():
        rows = [(f"`{row['key']}`", _value(row["value"]), row["type"], row["meaning"]) for row in keys]
        table = _table(("key", "value", "type and range", "meaning"), rows)
        parts += [f"## {name}", _sentence(head["meaning"]), table]
    return "\n\n".join(parts) + "\n"


def environment() -> str:
    """Return the page of every environment variable that is read."""
    from flows.environment import Environment

    rows = []
    for name, field in Environment.model_fields.items():
        variable = str(field.validation_alias or f"NEEDLEDROP_{name.upper()}")
        rows.append((f"`{variable}`", (field.description or "").replace(f" (`{variable}`)", "")))
    text = (
        "# Environment\n\nMade from `flows/environment.py`, the one place that reads it. `params.yaml` says what is "
        "computed; these say where, and with which rights. No stage sees them, but for the `AWS_*` variables, which boto3 "
        "reads by itself."
    )
    return f"{text}\n\n{_table(('variable', 'meaning'), rows)}\n"


def _sentence(text: str | None) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _value(value: object) -> str:
    return "" if value is None else f"`{value}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
