"""A Python file as the statements at its top: of each a digest of its syntax, and the names it uses.

The digest is that of the syntax tree without positions and docstrings, written in a way that is the same in every
version of Python from 3.11 on (``ast.dump`` is not).
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

Chain = tuple[str, ...]
"""A name and its attributes, as in ("np", "linalg", "norm")."""

_FILE: Final = re.compile(r"[\w-][\w.-]*\.\w+")  # what may be the name of a file beside a module
_GUARD: Final = "__name__ == '__main__'"


@dataclass(frozen=True)
class Target:
    """What an imported name stands for: a module, or something in it."""

    module: str
    name: str | None


@dataclass
class Part:
    """A statement at the top of a file.

    Attributes:
        digest: of its syntax.
        uses: names, with their attributes.
        imports: what names stand for that are imported inside it.
        imported: modules that it imports when it runs.
        called: modules that it imports by a string.
        files: words that may name a file beside the module.
    """

    digest: str
    uses: set[Chain] = field(default_factory=set)
    imports: dict[str, list[Target]] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


@dataclass
class Module:
    """A file.

    Attributes:
        folder: where it lies.
        parts: what defines a name; several where a name is defined again.
        run: what is run on import, whatever is used of the module.
        imports: what names stand for that are imported at its top.
        imported: modules that it imports at its top.
    """

    folder: Path
    parts: dict[str, list[Part]] = field(default_factory=dict)
    run: list[Part] = field(default_factory=list)
    imports: dict[str, list[Target]] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)


def read_module(path: Path) -> Module:
    """Return a file's parts; it is read once, for as long as it stays as it is.

    Raises:
        ValueError: it cannot be parsed, or has a relative or star import; file and line are named.
    """
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@cache
def _read(path: Path, changed_ns: int, size: int) -> Module:
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ValueError(f"{path}{line}: cannot be parsed ({getattr(error, 'msg', error)})") from None
    module = Module(path.parent)
    for statement in tree.body:
        _sort_in(module, statement, path)
    return module


def _sort_in(module: Module, statement: ast.stmt, path: Path) -> None:
    match statement:
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Import() | ast.ImportFrom():
            _bind(module.imports, statement, path)
            module.imported |= _imported(statement)
            return
        case ast.If(test=test, orelse=[]) if ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for inner in statement.body:  # never run, but annotations use what it imports
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    _bind(module.imports, inner, path)
            return
    part = _part(statement, path)
    names = _defined(statement)
    if not names:
        module.run.append(part)
        module.imported |= part.imported
        for bound, targets in part.imports.items():
            module.imports.setdefault(bound, []).extend(targets)
        names = _bound(statement)
    for name in names:
        module.parts.setdefault(name, []).append(part)


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement does nothing but define; none where it may do more."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=[target]):
            found = target.elts if isinstance(target, ast.Tuple) else [target]
            names = [one.id for one in found if isinstance(one, ast.Name)]
            return names if len(names) == len(found) else []
        case ast.If(test=test) if ast.unparse(test) == _GUARD:
            return ["__main__"]  # an import does not run it
        case _:
            return []


def _bound(statement: ast.stmt) -> list[str]:
    """Return every name that is defined somewhere in a statement."""
    found = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
    return found


def _bind(imports: dict[str, list[Target]], statement: ast.Import | ast.ImportFrom, path: Path) -> None:
    """Add the names that an import binds, and what they stand for."""
    for alias in statement.names:
        if isinstance(statement, ast.Import):
            bound = alias.asname or alias.name.partition(".")[0]
            target = Target(alias.name if alias.asname else bound, None)
        elif statement.level or statement.module is None or alias.name == "*":
            raise ValueError(
                f"{path}, line {statement.lineno}: relative and star imports cannot be followed; name both"
            )
        else:
            bound, target = alias.asname or alias.name, Target(statement.module, alias.name)
        imports.setdefault(bound, []).append(target)


def _imported(statement: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the modules that an import may run."""
    names = {alias.name for alias in statement.names}
    if isinstance(statement, ast.Import):
        return names
    return {str(statement.module), *(f"{statement.module}.{name}" for name in names)}


def _part(statement: ast.stmt, path: Path) -> Part:
    out: list[str] = []
    _write(statement, out)
    part = Part(hashlib.sha256("\n".join(out).encode()).hexdigest())
    _collect(statement, part, path)
    return part


def _collect(node: ast.AST, part: Part, path: Path) -> None:
    """Add to ``part`` what a node uses."""
    match node:
        case ast.Import() | ast.ImportFrom():
            _bind(part.imports, node, path)
            part.imported |= _imported(node)
            return
        case ast.Attribute() if chain := _chain(node):
            part.uses.add(chain)
            return
        case ast.Name(id=name):
            part.uses.add((name,))
        case ast.Constant(value=str(text)) if _FILE.fullmatch(text) and not text.endswith(".py"):
            part.files.add(text)
        case ast.Call(
            func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(module))],
        ):
            part.called.add(module)
        case ast.arg(annotation=said) | ast.AnnAssign(annotation=said) | ast.FunctionDef(returns=said) if said:
            for quoted in _quoted(said):
                _collect(quoted, part, path)
    for inner in ast.iter_child_nodes(node):
        _collect(inner, part, path)


def _chain(node: ast.Attribute) -> Chain | None:
    """Return ("np", "linalg", "norm") of ``np.linalg.norm``; None where it does not begin with a name."""
    names: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    return (value.id, *reversed(names)) if isinstance(value, ast.Name) else None


def _quoted(annotation: ast.expr) -> Iterator[ast.expr]:
    """Yield the types that an annotation has in quotes."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                yield ast.parse(node.value, mode="eval").body
            except SyntaxError:  # a word of a Literal
                continue


def _write(node: Any, out: list[str]) -> None:
    """Write a tree's names and values, line by line; what is empty is left out."""
    match node:
        case ast.Constant():
            out.append(f"{type(node.value).__name__} {node.value!a}")
        case ast.JoinedStr():
            _write(list(_joined(node.values)), out)
        case ast.AST():
            out.append(f"{type(node).__name__}(")
            for name in node._fields:
                value: Any = getattr(node, name, None)
                if value is None or value == [] or name in ("ctx", "type_comment"):
                    continue
                if name == "format_spec" and not value.values:
                    continue
                out.append(name)
                _write(_code(value) if name in ("body", "orelse", "finalbody") else value, out)
            out.append(")")
        case list():
            out.append("[")
            for value in node:
                _write(value, out)
            out.append("]")
        case _:
            out.append(f"{node!a}")


def _code(body: Any) -> Any:
    """Return statements without those that are a string: docstrings, of attributes too."""
    if not isinstance(body, list):  # of a lambda or a conditional expression
        return body
    return [one for one in body if not (isinstance(one, ast.Expr) and _is_text(one.value))]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _joined(values: list[ast.expr]) -> Iterator[ast.expr]:
    """Yield the parts of an f-string, neighbouring texts as one."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant):
            text += str(value.value)
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield value
    if text:
        yield ast.Constant(text)
