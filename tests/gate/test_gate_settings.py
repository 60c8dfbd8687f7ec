"""gate.yaml: the workspace's before the shipped one, every key named and every mistake said in a line."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from components.evaluation.params import EvaluationSection
from flows.errors import USAGE, Refusal
from flows.gate.settings import SHIPPED, Floors, GateSettings, Margins, read_settings


def test_a_workspace_may_have_its_own(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == read_settings(SHIPPED.parent)
    (tmp_path / "gate.yaml").write_text(SHIPPED.read_text().replace("minimum_effect: 0.01", "minimum_effect: 0.02"))
    own = read_settings(tmp_path)
    assert own.minimum_effect == 0.02 and own.digest() != read_settings(SHIPPED.parent).digest()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("minimum_effect: 0.01", "minimum_effect: 0", "gate.minimum_effect"),
        ("seed: 7", "sede: 7", "gate.sede: unknown key"),
        ("text: 0.03", "text: -0.03", "gate.margins.text"),
        ("gate:", "gates:", "section 'gate' is missing"),
        ("seed: 7", "seed: [", "not valid YAML"),
        ("gate:", "<<<<<<< HEAD\ngate:", "gate.yaml: line 3 is a conflict mark of git (<<<<<<< HEAD)"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    (tmp_path / "gate.yaml").write_text(SHIPPED.read_text().replace(old, new, 1))
    with pytest.raises(Refusal) as refusal:
        read_settings(tmp_path)
    message = str(refusal.value)
    assert refusal.value.code == USAGE and message.startswith("gate.yaml: ") and says in message
    assert "params.yaml" not in message and "\n" not in message


def test_every_key_says_what_it_is() -> None:
    kinds: tuple[type[BaseModel], ...] = (GateSettings, Margins, Floors)
    for kind in kinds:
        for name, field in kind.model_fields.items():
            assert field.is_required() and field.description, f"{kind.__name__}.{name}"
    assert EvaluationSection.model_fields["least_slice"]  # the gate's own is larger: it decides
