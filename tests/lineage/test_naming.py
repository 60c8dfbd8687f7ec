"""Names of models: what is read, and what is refused before anything is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import Refusal
from flows.lineage.chain import chain
from flows.lineage.naming import Wanted, find, parse
from flows.registry.tracking import MODEL

from .conftest import Shelf


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3", Wanted(version=3)),
        ("champion", Wanted(alias="champion")),
        ("models:/needledrop/12", Wanted(version=12)),
        ("models:/needledrop@champion", Wanted(alias="champion")),
    ],
)
def test_numbers_aliases_and_addresses_are_read(text: str, wanted: Wanted) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "models:/other@champion", "models:/needledrop", "models:/needledrop/champion", "../1", "a/b",
     "models:/needledrop@../../etc", "file:///etc/passwd", "1;drop", "-oProxyCommand=x", "a b", "é", "1\n"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        parse(text)


@given(st.text(max_size=40))
def test_a_name_that_is_read_is_a_plain_word(text: str) -> None:
    try:
        wanted = parse(text)
    except Refusal:
        return
    said = str(wanted.version or wanted.alias)
    assert said.isascii() and said.replace("-", "").replace("_", "").isalnum() and not said.startswith("-")


def test_a_version_that_is_not_there_is_answered_with_those_that_are(shelf: Shelf) -> None:
    assert find(shelf.client, shelf.platform, "champion").version == 1
    with pytest.raises(Refusal, match="there is version 1, version 2, version 3, champion"):
        find(shelf.client, shelf.platform, "9")
    with pytest.raises(Refusal, match="previous"):
        find(shelf.client, shelf.platform, "previous")


def test_an_alias_of_the_ledger_is_where_the_ledger_has_it(shelf: Shelf) -> None:
    shelf.client.set_registered_model_alias(MODEL, "champion", "2")
    shelf.client.set_registered_model_alias(MODEL, "heard", "3")
    try:
        assert find(shelf.client, shelf.platform, "champion").version == 1
        assert chain(shelf.platform, "2")["aliases"] == []
        assert find(shelf.client, shelf.platform, "heard").version == 3, "the ledger decides nothing about it"
    finally:
        shelf.client.set_registered_model_alias(MODEL, "champion", "1")
        shelf.client.delete_registered_model_alias(MODEL, "heard")
