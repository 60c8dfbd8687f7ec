"""The whole of params.yaml: every key checked and explained, whatever somebody writes into it."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.params import check, explain
from components.settings import ParamsError, read_params

from .conftest import ROOT

TREE = read_params(ROOT / "params.yaml")


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree


def test_the_committed_file_is_right() -> None:
    assert check(TREE).training.steps == TREE["training"]["steps"]


@pytest.mark.parametrize("path", list(leaves(TREE)), ids=".".join)
def test_a_value_of_the_wrong_type_is_named(path: tuple[str, ...]) -> None:
    with pytest.raises(ParamsError) as error:
        check(changed(path, {"no": "value"}))
    message = str(error.value)
    assert path[0] in message and path[-1] in message and "\n" not in message


@pytest.mark.parametrize("section", TREE)
def test_a_missing_section_and_a_strange_key_are_named(section: str) -> None:
    with pytest.raises(ParamsError, match=f"'{section}' is missing"):
        check({name: value for name, value in TREE.items() if name != section})
    with pytest.raises(ParamsError, match="zzz: unknown key"):
        check(changed((section, "zzz"), 1))


def test_all_problems_are_told_at_once() -> None:
    tree = changed(("training", "steps"), 0)
    tree["indexing"]["seed"] = "seven"
    tree["indexng"] = {}
    with pytest.raises(ParamsError) as error:
        check(tree)
    for words in ("training.steps", "indexing.seed", "indexng: unknown section; did you mean 'indexing'?"):
        assert words in str(error.value)


def test_a_segment_longer_than_a_clip_is_a_contradiction() -> None:
    with pytest.raises(ParamsError, match=r"features\.segment_s: .*ingest\.limits\.clip_s"):
        check(changed(("features", "segment_s"), TREE["ingest"]["limits"]["clip_s"] + 1))


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from([*TREE, "other", 7, None]), WILD, max_size=4),
    st.sampled_from(list(leaves(TREE))),
    WILD,
)
def test_nonsense_is_refused_in_one_line_or_right(sections: dict[Any, Any], path: tuple[str, ...], value: Any) -> None:
    for tree in ({**TREE, **sections}, changed(path, value)):
        try:
            check(tree)
        except ParamsError as error:
            assert str(error).startswith("params.yaml: ") and "\n" not in str(error)


def test_every_key_is_explained_once() -> None:
    rows = {row["key"]: row for row in explain(TREE)}
    assert len(rows) == len(explain(TREE))
    for path in leaves(TREE):
        value: Any = TREE
        for key in path:
            value = value[key]
        assert rows[".".join(path)]["value"] == value
    assert rows["corpus.bucket"]["meaning"].endswith("(kind s3)"), "keys of the kinds not chosen are there too"


def test_the_file_itself_may_be_broken(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"a: [", b"- 1", b""):
        (tmp_path / "params.yaml").write_bytes(content)
        with pytest.raises(ParamsError, match=r"params\.yaml"):
            read_params(tmp_path / "params.yaml")
