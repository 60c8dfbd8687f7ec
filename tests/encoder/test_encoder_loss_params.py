"""Section ``encoder.loss``: what is refused, and with which words."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from components.encoder.params import TERMS, LossSection
from components.settings import ParamsError, parse_section
from tests.encoder.objectives import HARD, SIGMOID, section


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"terms": {"fused-music": 1.0}}, "terms lacks video-music, text-music, video-text"),
        ({"terms": {"fused-musik": 1.0}}, "loss.terms.fused-musik"),
        ({"terms": dict.fromkeys(TERMS, 0.0)}, "at least one term a weight"),
        ({"terms": dict.fromkeys(TERMS, -1.0)}, "loss.terms.fused-music: input should be greater than or equal to 0"),
        ({"initial_temperature": 0.05}, "loss.initial_temperature 0.05 is below loss.lowest_temperature 0.1"),
        ({"kind": "sigmoid", "initial_bias": -2.0}, "loss.hard_negatives: unknown key"),
        ({"kind": "triplet"}, "'infonce', 'sigmoid'"),
        ({"stream_rows": 0}, "loss.stream_rows: input should be greater than or equal to 1"),
        ({"mask": {"same_track": True, "same_artist": False}}, "loss.mask.near_duplicates: missing"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=r"^params\.yaml: loss") as error:
        parse_section(LossSection, "loss", {"loss": section().model_dump() | changes})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [HARD, SIGMOID])
def test_a_section_survives_json(kind: dict[str, Any]) -> None:
    made = section(stream_rows=64, **kind)
    assert TypeAdapter(LossSection).validate_json(made.model_dump_json()) == made
