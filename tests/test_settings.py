"""Reading params.yaml: every mistake becomes one line that names the key, the value and the rule."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from components.settings import ParamsError, Section, parse_section, read_params, read_section


class Small(Section):
    kind: Literal["small"]
    """Which one."""
    width: int = Field(ge=1, le=8)
    """Units."""


class Large(Section):
    kind: Literal["large"]
    """Which one."""
    low: float
    """Lower bound."""
    high: float
    """Upper bound."""

    @model_validator(mode="after")
    def _ordered(self) -> "Large":
        if self.low >= self.high:
            raise ValueError(f"low must be below high ({self.high})")
        return self


Either = Annotated[Small | Large, Field(discriminator="kind")]


def parse(tree: dict[str, Any]) -> Any:
    return parse_section(Either, "size", {"size": tree})


def test_reads_the_member_that_kind_names(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("size: {kind: small, width: 3}\n")
    assert read_section(Either, "size", path) == Small(kind="small", width=3)


@pytest.mark.parametrize(
    ("tree", "key", "words"),
    [
        ({"kind": "small", "width": 3, "widht": 4}, "size.widht", "unknown key"),
        ({"kind": "small", "width": 9}, "size.width", "less than or equal to 8"),
        ({"kind": "small", "width": "wide"}, "size.width", "'wide'"),
        ({"kind": "small"}, "size.width", "missing"),
        ({"kind": "medium"}, "size", "medium"),
        ({"width": 3}, "size", "kind"),
        ({"kind": "large", "low": 2.0, "high": 1.0}, "size: low", "must be below high"),
        (["kind", "small"], "size", "['kind', 'small']"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tree: Any, key: str, words: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(tree)
    message = str(caught.value)
    assert key in message
    assert words in message
    assert "\n" not in message


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ParamsError, match="section 'size' is missing"):
        parse_section(Either, "size", {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", "'a' stands twice, on lines 1 and 3"),
        (b"size: {kind: small, kind: large}\n", "'kind' stands twice"),
        (b"a: [1\n", "not valid YAML"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"a: \xff\n", "not UTF-8"),
        (b"? [a, b]\n: 1\n", "a key must be a word"),
        (
            b"a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> theirs\n",
            "line 2 is a conflict mark of git (<<<<<<< HEAD): choose",
        ),
        (b"a: |\n  text\n>>>>>>> their work\nb: 1\n", "line 3 is a conflict mark of git (>>>>>>> their work): choose"),
        (b"a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        read_params(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no such file"):
        read_params(tmp_path / "params.yaml")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@given(tree=trees)
def test_any_tree_is_accepted_or_refused_in_one_line(tree: Any) -> None:
    try:
        section = parse(tree)
    except ParamsError as error:
        assert str(error).startswith("params.yaml: size")
        assert "\n" not in str(error)
    else:
        assert isinstance(section, (Small, Large))


@given(content=st.binary(max_size=64))
def test_any_bytes_are_a_mapping_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "params.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(read_params(path), dict)
    except ParamsError as error:
        assert "\n" not in str(error)


@given(tree=st.dictionaries(st.text(max_size=6), scalars, max_size=4))
def test_what_yaml_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("back") / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    assert repr(read_params(path)) == repr(tree) or tree == {}
