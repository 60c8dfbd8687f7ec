"""The whole of ``params.yaml``: every section at once, and the rules that span sections.

A stage reads its own section only; this is what the flows check before anything starts, and what
`needledrop doctor --params` explains.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from components.captioning.params import CaptioningParams
from components.corpus.params import CorpusParams
from components.encoder.params import EncoderSection
from components.evaluation.params import EvaluationSection
from components.features.params import FeaturesParams
from components.indexing.params import IndexingSection
from components.ingest.params import Ingest
from components.settings import PARAMS_FILE, ParamsError, Section, parse_section, read_params
from components.tagging.params import TaggingParams
from components.training.params import TrainingSection
from components.validate.params import Validate


class Params(Section):
    """Every section of ``params.yaml``."""

    corpus: CorpusParams = Field(description="where media come from")
    ingest: Ingest = Field(description="what a usable file is, and how clips are split")
    # pydantic's own models have a deprecated method of this name.
    validate_: Validate = Field(alias="validate", description="what the manifest must satisfy")
    features: FeaturesParams = Field(description="segment features of each modality")
    tagging: TaggingParams = Field(description="the music tagger")
    captioning: CaptioningParams = Field(description="a sentence per clip from its tags")
    encoder: EncoderSection = Field(description="the shape of the model and its objective")
    training: TrainingSection = Field(description="how the model is fitted")
    evaluation: EvaluationSection = Field(description="the pool and the intervals")
    indexing: IndexingSection = Field(description="how the catalogue is searched")


def read_all(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file.

    Raises:
        ParamsError: one line that names every key that is wrong, its value and the rule.
    """
    return check(read_params(path))


def check(tree: dict[str, Any]) -> Params:
    """Check the sections of ``tree``, each by itself and then together.

    Raises:
        ParamsError: as ``read_all``.
    """
    fields = {field.alias or name: field for name, field in Params.model_fields.items()}
    problems = [_unknown(str(name), list(fields)) for name in tree if name not in fields]
    parsed: dict[str, Any] = {}
    for name, field in fields.items():
        try:
            parsed[name] = parse_section(_annotation(field), name, tree)
        except ParamsError as error:
            problems.append(str(error).removeprefix(f"{PARAMS_FILE}: "))
    if not problems:
        problems = list(across(parsed))
    if problems:
        # A key may hold any character, a line break too.
        raise ParamsError(" ".join(f"{PARAMS_FILE}: {'; '.join(problems)}".split()))
    return Params(**parsed)


def across(sections: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong between sections that are each right."""
    clip_s, segment_s = sections["ingest"].limits.clip_s, sections["features"].segment_s
    if segment_s > clip_s:
        yield (
            f"features.segment_s: a segment ({segment_s:g} s) is longer than the longest clip "
            f"(ingest.limits.clip_s, {clip_s:g} s); lower the first or raise the second"
        )


def explain(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every key in the file's order: its dotted name, present value, type, range and meaning.

    Of a section with several kinds, the keys of all kinds are listed.
    """
    rows: list[dict[str, Any]] = []
    for name, field in Params.model_fields.items():
        section = field.alias or name
        rows.append({"key": section, "value": None, "type": "section", "meaning": field.description or ""})
        rows += _explain(section, _annotation(field), tree.get(section))
    return rows


def _explain(
    key: str, annotation: Any, value: Any, seen: set[str] | None = None, of: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the keys below ``key`` that are not ``seen`` yet; ``of`` tells the kind they belong to."""
    seen = set() if seen is None else seen
    kinds = [_kind(kind) for kind in _models(annotation) if "kind" in kind.model_fields]
    # The chosen kind first; of the others, what the chosen one has not.
    for kind in sorted(_models(annotation), key=lambda kind: not _is_chosen(kind, value)):
        chosen = _is_chosen(kind, value)
        words = of if chosen else f" (kind {_kind(kind)})"
        for name, field in sorted(kind.model_fields.items(), key=lambda item: item[0] != "kind"):
            full, inner = f"{key}.{name}", list(_models(field.annotation))
            if name == "kind" and not chosen:
                continue
            shown = value.get(name) if chosen and isinstance(value, dict) else None
            if full not in seen:
                seen.add(full)
                row = {
                    "key": full,
                    "value": shown,
                    "type": _type(field, kinds if name == "kind" else []),
                    "meaning": (field.description or "") + words,
                }
                entries = shown.items() if isinstance(shown, dict) and not inner else ()
                yield row | {"value": None, "type": "section"} if inner or entries else row
                yield from ({**row, "key": f"{full}.{entry}", "value": value} for entry, value in entries)
            if inner:  # two kinds may have a section of the same name with other keys
                yield from _explain(full, field.annotation, shown, seen, words)


def _is_chosen(kind: type[BaseModel], value: Any) -> bool:
    return "kind" not in kind.model_fields or (isinstance(value, dict) and value.get("kind") == _kind(kind))


def _kind(kind: type[BaseModel]) -> str:
    return str(get_args(kind.model_fields["kind"].annotation)[0])


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list, dict):
        for argument in get_args(annotation):
            yield from _models(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _type(field: FieldInfo, kinds: list[str]) -> str:
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(kinds or map(str, get_args(field.annotation)))
    annotation = field.annotation
    if get_origin(annotation) is dict:
        return _type(FieldInfo.from_annotation(get_args(annotation)[1]), [])
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    signs = {annotated_types.Ge: ">=", annotated_types.Gt: ">", annotated_types.Le: "<=", annotated_types.Lt: "<"}
    bounds = [
        f"{sign} {getattr(rule, kind.__name__.lower()):g}"
        for rule in field.metadata
        for kind, sign in signs.items()
        if isinstance(rule, kind)
    ]
    return ", ".join([name, *bounds])


def _annotation(field: FieldInfo) -> Any:
    """Return the field's type with its discriminator, which pydantic has moved into the field."""
    return Annotated[field.annotation, field] if field.discriminator else field.annotation


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown section" + (f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}")
