"""The digest of the code that makes a result: what a result that is kept is bound to, instead of a version number.

It covers what an entry can reach, definition by definition: functions, classes and constants at the top of a module, and
what stands there to be run on import. The names that each uses are followed into our other modules, through imports
inside functions too, and into the ``__init__`` of packages. A string that names a file beside the module
(``"world.yaml"``) covers that file's bytes. The installed packages that are reached count by major and minor version.

Code counts by its syntax without docstrings. So a comment, a docstring, formatting, the order of definitions and all
that the entry does not reach change nothing; nor do the place of the checkout and the version of Python.

Not covered: what is imported or started by a name that is computed, or started as a program; methods of an object that
comes in without an annotation; what packages need themselves; Python; the machine. An upgrade of a package runs no stage
of DVC's by itself: the next run sees it, and keeps nothing that the old one made.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Final

from components import syntax
from components.syntax import Chain, Module, Part, Target

OURS: Final = ("components", "flows", "research", "service")
DISTRIBUTIONS: Final = {"faiss": "faiss-cpu", "sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Packages that are installed by another name than they are imported by."""
CARRIERS: Final = frozenset({
    "annotated_types", "boto3", "botocore", "great_expectations", "httpx", "huggingface_hub", "matplotlib", "mlflow",
    "psutil", "pyarrow", "pydantic", "pydantic_core", "safetensors", "threadpoolctl", "tqdm", "yaml",
})  # fmt: skip
"""Packages that fetch, check, store or show values and compute none that is kept: their versions do not count."""

Entry = str | Callable[..., object]

_ROOT: Final = Path(__file__).resolve().parent.parent


def code_digest(*entries: Entry, without: Collection[str] = (), packages: bool = True, root: Path = _ROOT) -> str:
    """Return the sha256 of the code that the entries reach.

    Args:
        entries: functions or classes from the top of a module; or their names, as
            ``"components.features.music:music_features"``; or the name of a whole module.
        without: modules and packages that are not entered, such as those of other kinds that a module chooses from.
        packages: whether the installed packages count.
        root: the folder in which ``components`` lies.

    Raises:
        ValueError: there is no such module or name, or a file cannot be parsed; it is named.
    """
    return _reached(entries, without, root).digest(packages)


def covered(*entries: Entry, without: Collection[str] = (), root: Path = _ROOT) -> list[str]:
    """Return what the digest covers: ``module:name`` of definitions, ``module/file`` of data files.

    Raises:
        ValueError: see ``code_digest``.
    """
    return sorted({name.partition("#")[0] for name in _reached(entries, without, root).found})


def packages(*entries: Entry, without: Collection[str] = (), root: Path = _ROOT) -> dict[str, str]:
    """Return major and minor version of the installed packages that the entries reach, ``CARRIERS`` left out.

    An optional one that is not installed has the version ``none``.

    Raises:
        ValueError: see ``code_digest``.
    """
    return _installed(_reached(entries, without, root).packages)


def imported(*entries: Entry, without: Collection[str] = (), root: Path = _ROOT) -> list[str]:
    """Return the names of all packages of others that must be there for the entries to run, ``CARRIERS`` too.

    Raises:
        ValueError: see ``code_digest``.
    """
    return sorted(_reached(entries, without, root).needed())


def tree_digest(package: str, root: Path = _ROOT) -> str:
    """Return the sha256 of all that lies in a package: each module, whole, with what it reaches, and each other file.

    Raises:
        ValueError: see ``code_digest``.
    """
    folder = root.joinpath(*package.split("."))
    reach = _Reach((), root)
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if not path.is_file() or any(part.startswith((".", "__pycache__")) for part in inner.parts):
            continue
        if path.suffix == ".py":
            names = (package, *inner.with_suffix("").parts)
            reach.enter(".".join(names[:-1] if names[-1] == "__init__" else names))
        else:
            reach.found[f"{package}/{inner.as_posix()}"] = _file_digest(path)
    return reach.digest(packages=False)


class _Reach:
    """The walk from entries over all that they use.

    Attributes:
        found: digests of definitions and data files by name.
        outside: what names stand for that are defined by others.
        packages: names of others' packages.
    """

    def __init__(self, without: Collection[str], root: Path) -> None:
        self.found: dict[str, str] = {}
        self.outside: set[str] = set()
        self.packages: set[str] = set()
        # How a digest is made changes no result.
        self._without, self._root = {*without, __name__, syntax.__name__}, root
        self._modules: dict[str, Module | None] = {}
        self._seen: set[tuple[str, Chain]] = set()
        self._todo: list[tuple[str, Chain]] = []

    def digest(self, packages: bool) -> str:
        """Return the sha256 of what was found."""
        lines = {f"{name} {digest}" for name, digest in self.found.items()} | self.outside
        if packages:
            lines |= {f"{name} {number}" for name, number in _installed(self.packages).items()}
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def needed(self) -> set[str]:
        """Return the packages that are used, or that a module asks for when it is imported."""
        modules = [module for module in self._modules.values() if module is not None]
        asked = {name.partition(".")[0] for module in modules for name in module.imported if not _is_ours(name)}
        return self.packages | (asked - sys.stdlib_module_names)

    def enter(self, entry: str) -> None:
        """Follow an entry to the end."""
        name, _, what = entry.partition(":")
        module = self._module(name)
        if module is None or (what and what not in module.parts and what not in module.imports):
            raise ValueError(f"{entry}: no such {'name' if module else 'module'} in {self._root}")
        self._todo.append((name, (what,) if what else ()))
        while self._todo:
            step = self._todo.pop()
            if step not in self._seen:
                self._seen.add(step)
                self._follow(*step)

    def _follow(self, name: str, chain: Chain) -> None:
        """Follow an attribute of a module; all of them where none is given."""
        module = self._run(name)
        if module is None:
            return
        if not chain:
            self._todo += [(name, (own,)) for own in (*module.parts, *module.imports)]
            return
        first, rest = chain[0], chain[1:]
        self._use(name, module, f"{name}:{first}", module.parts.get(first, ()))
        for target in module.imports.get(first, ()):
            if not _is_ours(target.module):
                self.outside.add(f"{name}:{first} is {target.module}:{target.name}")
            self._go(target, rest)
        if first not in module.parts and first not in module.imports:
            if self._file(f"{name}.{first}"):
                self._todo.append((f"{name}.{first}", rest))
            elif not first.startswith("__"):  # made at run time, nobody can see where
                self._todo.append((name, ()))

    def _go(self, target: Target, rest: Chain) -> None:
        self._todo.append((target.module, rest if target.name is None else (target.name, *rest)))

    def _use(self, name: str, module: Module, label: str, parts: Iterable[Part]) -> None:
        """Add parts of a module, and follow what they use."""
        for at, part in enumerate(parts):
            self.found[f"{label}#{at}"] = part.digest
            for other in part.imported:
                self._run(other)
            for chain in part.uses:
                for target in part.imports.get(chain[0], ()):
                    self._go(target, chain[1:])
                if chain[0] in module.parts or chain[0] in module.imports:
                    self._todo.append((name, chain))
            self._todo += [(other, ()) for other in part.called]
            for file in part.files:
                if (module.folder / file).is_file():
                    self.found[f"{name}/{file}"] = _file_digest(module.folder / file)

    def _run(self, name: str) -> Module | None:
        """Follow what the import of a module runs; return the module, if it is one of ours to be followed."""
        if _is_ours(name):
            left_out = any(name == other or name.startswith(f"{other}.") for other in self._without)
            return None if left_out else self._module(name)
        self.packages |= {name.partition(".")[0]} - sys.stdlib_module_names
        return None

    def _module(self, name: str) -> Module | None:
        if name not in self._modules:
            path = self._file(name)
            self._modules[name] = module = syntax.read_module(path) if path else None
            if module is not None:
                for other in (name.rpartition(".")[0], *module.imported):
                    if _is_ours(other):  # a package of others counts where it is used, not where it is imported
                        self._run(other)
                self._use(name, module, f"{name}:", module.run)
        return self._modules[name]

    def _file(self, name: str) -> Path | None:
        place = self._root.joinpath(*name.split("."))
        found = (path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file())
        return next(found, None)


def _reached(entries: Iterable[Entry], without: Collection[str], root: Path) -> _Reach:
    reach = _Reach(without, root)
    for entry in entries:
        reach.enter(entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__name__}")
    return reach


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def _installed(names: Iterable[str]) -> dict[str, str]:
    distributions = [DISTRIBUTIONS.get(name, name) for name in set(names) - CARRIERS]
    return {name: _number(name) for name in sorted(distributions)}


@cache
def _number(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        whole = version(distribution)
    except PackageNotFoundError:
        return "none"
    short = re.match(r"\d+(\.\d+)?", whole)
    return short.group() if short else whole


def _file_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
