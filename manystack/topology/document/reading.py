"""Reads parts of a document as pydantic models: every mistake becomes a sentence with its place."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from manystack.topology.document.errors import NOT_YET, Problems, below, short

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)


def read_part(problems: Problems, model: type[M], written: object, place: str) -> M | None:
    """Return a part of a document as a model, with all its mistakes noted.

    What is wrong is left out, so that what else is wrong can be seen; None if nothing comes of the rest.
    """
    try:
        return model.model_validate(written)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        _note(problems, model, detail, place)
    try:
        return model.model_validate(_without(written, [detail["loc"] for detail in details]))
    except ValidationError:
        return None


def _without(written: object, paths: list[tuple[int | str, ...]]) -> object:
    """Return a mapping without what is at the paths. A list goes as a whole: places count its entries."""
    if not isinstance(written, dict):
        return written
    below_key: dict[int | str, list[tuple[int | str, ...]]] = {}
    for step, *rest in paths:
        below_key.setdefault(step, []).append(tuple(rest))
    kept = {key: value for key, value in written.items() if key not in below_key}
    for key, rests in below_key.items():
        if all(rests) and isinstance(written.get(str(key)), dict):
            kept[key] = _without(written[key], rests)
    return kept


def read_kind(
    problems: Problems,
    kinds: Mapping[str, type[M]],
    written: object,
    place: str,
    *,
    later: tuple[str, ...] = (),
) -> M | None:
    """Return a part whose `kind` says what else it may hold."""
    if not isinstance(written, dict):
        problems.add(place, f"must be a mapping with a kind, not {short(written)}")
        return None
    kind = written.get("kind")
    if isinstance(kind, str) and kind in kinds:
        return read_part(problems, kinds[kind], written, place)
    if "kind" not in written:
        problems.add(f"{place}.kind", f"is missing: write one of {', '.join(kinds)}")
    elif isinstance(kind, str) and kind in later:
        problems.add(f"{place}.kind", f"kind {kind} is {NOT_YET}")
    else:
        problems.add_unknown(f"{place}.kind", "kind", kind, kinds)
    return None


def _note(problems: Problems, model: type[BaseModel], detail: "ErrorDetails", place: str) -> None:
    """Turn what pydantic says into a sentence of ours."""
    for step in detail["loc"]:
        if detail["type"] != "extra_forbidden" or step is not detail["loc"][-1]:
            model = getattr(model, "parts", {}).get(step, model)
        # pydantic's word for a key that is wrong itself.
        if step != "[key]":
            place = below(place, step)
    value = detail["input"]
    limits = detail.get("ctx", {})
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    match detail["type"]:
        case "extra_forbidden":
            allowed = [key for key, field in fields.items() if field.annotation is not type(None)]
            problems.add_unknown(place, "key", detail["loc"][-1], allowed)
        case "missing":
            problems.add(place, f"is missing: {fields[str(detail['loc'][-1])].description}")
        case "value_error":
            problems.add(place, str(limits["error"]))
        case "literal_error":
            problems.add(place, f"{short(value)} is not known here; allowed: {limits['expected']}")
        case "dict_type" | "model_type":
            problems.add(place, f"must be a mapping, not {short(value)}")
        case "list_type":
            problems.add(place, f"must be a list, not {short(value)}")
        case "string_type":
            problems.add(place, f"must be text, not {short(value)}: put it in quotes")
        case "int_type":
            problems.add(place, f"must be a whole number without a unit, not {short(value)}")
        case "bool_type":
            problems.add(place, f"must be true or false, not {short(value)}")
        case "too_short" | "too_long":
            problems.add(place, f"must have {limits.get('min_length', limits.get('max_length'))} entries")
        case "greater_than_equal":
            problems.add(place, f"{short(value)} is too small: at least {limits['ge']}")
        case "less_than_equal":
            problems.add(place, f"{short(value)} is too large: at most {limits['le']}")
        case "less_than":
            problems.add(place, f"{short(value)} is too large: at most {limits['lt'] - 1}")
        case _:
            problems.add(
                place, f"{short(value)} is not possible here: {detail['msg'].replace('Input', 'it')}"
            )
