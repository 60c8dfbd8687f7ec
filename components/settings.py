"""Typed parameters: the base class of every section and the one reader of ``params.yaml``.

A section is a frozen pydantic model that lives in its component's ``params.py``. Unknown keys,
mistyped values and contradictions become one line that names the key, the value and the rule.
"""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

PARAMS_FILE = Path("params.yaml")

_CONFLICT = re.compile(r"^(?:<{7}|>{7})(?: .*)?$", flags=re.M)

T = TypeVar("T")

sections_read: dict[tuple[Path, str], Any] = {}
"""Every section that this process has read, as it stood in the file."""


class ParamsError(ValueError):
    """The user's ``params.yaml`` is wrong; the message names the key, the value and the rule."""


class Section(BaseModel):
    """One component's parameters. Every field is required and documented with its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; a settings file must not."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = [(loader.construct_object(k, deep=True), k.start_mark.line + 1) for k, _ in node.value]
    seen: dict[Any, int] = {}
    for key, line in pairs:
        if isinstance(key, (dict, list)):
            raise ParamsError(f"line {line}: a key must be a word, not {key!r}")
        if key in seen:
            raise ParamsError(f"key {key!r} stands twice, on lines {seen[key]} and {line}: keep one")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def conflict(text: str) -> str | None:
    """Say where git has left the two sides of a merge in `text` for somebody to choose; None where it has not."""
    mark = _CONFLICT.search(text)
    if mark is None:
        return None
    line = text.count("\n", 0, mark.start()) + 1
    return f"line {line} is a conflict mark of git ({_one_line(mark[0])[:40]})"


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the whole of ``params.yaml`` as plain mappings.

    Raises:
        ParamsError: the file is absent, is left in conflict by git, is not YAML, is not a mapping, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if where := conflict(text):
            raise ParamsError(f"{where}: choose between the two sides and take the marks out")
        tree = yaml.load(text, _UniqueKeyLoader)  # noqa: S506
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's root") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {_one_line(str(error))}") from None
    except (ParamsError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: {_one_line(str(error))}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: must be a mapping of sections, got {type(tree).__name__}")
    return tree


def parse_section(kind: type[T] | Any, name: str, tree: dict[str, Any]) -> T:
    """Check section ``name`` of ``tree`` against ``kind`` (a model or an annotated union).

    Raises:
        ParamsError: the section is missing or wrong; one line, every problem named.
    """
    if name not in tree:
        raise ParamsError(f"params.yaml: section '{name}' is missing")
    try:
        section: T = TypeAdapter(kind).validate_python(tree[name])
        return section
    except ValidationError as error:
        problems = "; ".join(_problem(name, detail, tree[name]) for detail in error.errors())
        raise ParamsError(f"params.yaml: {problems}") from None


def read_section(kind: type[T] | Any, name: str, path: Path = PARAMS_FILE) -> T:
    """Read and check one section of ``params.yaml``; what each stage's main calls first."""
    tree = read_params(path)
    section: T = parse_section(kind, name, tree)
    sections_read[path.absolute(), name] = tree[name]
    return section


def differences(key: str, old: Any, new: Any) -> list[str]:
    """Return each key below ``key`` that is another in two trees of values, with both values in words."""
    before, now = _flat(key, old), _flat(key, new)
    return [
        f"{name}: {before.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "absent") != now.get(name, "absent")
    ]


def _flat(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {name: text for inner, more in value.items() for name, text in _flat(f"{key}.{inner}", more).items()}
    return {} if value is None else {key: str(value)}


def _problem(section: str, detail: ErrorDetails, value: Any) -> str:
    where = ".".join([section, *_keys(detail, value)])
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key (value {_short(detail['input'])}); remove it or mend its spelling"
    if detail["type"] == "missing":
        return f"{where}: missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {_lower_first(message)} (got {_short(detail['input'])})"


def _keys(detail: ErrorDetails, value: Any) -> list[str]:
    """Return the keys as the user wrote them: a union's tag, which pydantic adds, is not one of them."""
    keys = []
    for depth, part in enumerate(detail["loc"]):
        last = depth == len(detail["loc"]) - 1
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif not (last and detail["type"] == "missing"):
            continue
        keys.append(_one_line(str(part)))
    return keys


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _one_line(text: str) -> str:
    return " ".join(text.split())
