"""Reading a scale: `config/<name>.yaml`, with changes given on the command line, into `Settings`. Needs no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from hylorada.errors import HyLoRADAError, near
from hylorada.reading import read_yaml
from hylorada.study.checkout import project_root
from hylorada.study.plan.acting import check_each_acts
from hylorada.study.plan.settings import Settings


def load_settings(scale: str, changes: Mapping[str, Any] | None = None) -> Settings:
    """Read the scale of that name from config/, or the file of that path when it ends in .yaml.

    changes: settings that replace those of the scale, and of every budget that has them.

    Raises:
        HyLoRADAError: no such scale or file, no YAML, a missing or unknown key, one on which no run hangs (see
            `acting`), or what `Settings` refuses.
    """
    folder = project_root() / "config"
    path = Path(scale) if scale.endswith((".yaml", ".yml")) else folder / f"{scale}.yaml"
    if not path.is_file():
        names = [p.stem for p in folder.glob("*.yaml")]
        raise HyLoRADAError(f"scale {scale!r} is not there; {near(scale, names)}, or the path of a .yaml file")
    values = read_mapping(path)
    known = [field.name for field in fields(Settings) if field.name != "scale"]
    for name in values:
        if name not in known:
            raise HyLoRADAError(f"{path}: {name!r} is no setting; {near(str(name), known)}")
    missing = [name for name in known if name not in values and name not in LEFT_OUT]
    if missing:
        raise HyLoRADAError(f"{path}: {', '.join(missing)} missing; config/micro.yaml explains each.")
    for name in changes or {}:
        if name not in known:
            raise HyLoRADAError(f"--set {name}: there is no such setting; {near(name, known)}")
    settings = _settings(path.stem, values)
    check_each_acts(settings, values)
    if changes:
        studies = changes.get("studies", values["studies"])
        if isinstance(studies, dict):  # else `Settings` says what is wrong with it
            studies = {study: _without(budget, changes) for study, budget in studies.items()}
        settings = _settings(path.stem, values | changes | {"studies": studies})
        check_each_acts(settings, changes)
    return settings


def read_changes(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `name=value` pairs, each value as YAML reads it (HyLoRADAError for one of another form)."""
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise HyLoRADAError(f"--set {pair!r} is no NAME=VALUE; write, for example, num_epochs=3")
        changes[name] = read_yaml(f"--set {name}: {value!r}", value, advice="write a value as in a scale's file")
    return changes


def _as_number(value: Any) -> Any:
    """Return a number that YAML reads as a whole one or, for want of a point as in 1e-3, as text; the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


class _EachKeyOnce(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, where the last one would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping (ConstructorError for a repeated key)."""
        seen = set()
        for key in (str(key.value) for key, _ in node.value):
            if key in seen or seen.add(key):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file of names with values (HyLoRADAError: no YAML, a name given twice, or something else)."""
    values = read_yaml(path, loader=_EachKeyOnce)
    if not isinstance(values, dict):
        raise HyLoRADAError(f"{path} holds no settings; it must map names to values, as config/micro.yaml does.")
    return values


def _settings(scale: str, given: Mapping[str, Any]) -> Settings:
    values = dict.fromkeys(LEFT_OUT) | {"bases": [given["base"]], "part_rates": {}} | dict(given)
    if values["compile"] is False:  # how YAML reads a plain no
        values["compile"] = "no"
    values = _with_numbers(values)
    if isinstance(values["studies"], dict):
        budgets = values["studies"].items()
        values["studies"] = {study: _with_numbers(b) if isinstance(b, dict) else b for study, b in budgets}
    return Settings(scale=scale, **values)


def _with_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which each that is a number, or names with numbers, has numbers."""
    kinds, read = get_type_hints(Settings), dict(values)
    for name, value in values.items():
        if kinds.get(name) in (float, float | None):
            read[name] = _as_number(value)
        elif kinds.get(name) == dict[str, float] and isinstance(value, dict):
            read[name] = {key: _as_number(item) for key, item in value.items()}
    return read


def _without(budget: Any, changes: Mapping[str, Any]) -> Any:
    return {key: value for key, value in budget.items() if key not in changes} if isinstance(budget, dict) else budget


LEFT_OUT = (  # may be absent where no study of the scale reads them, or where they say nothing
    *("bases", "train_lines", "line_tokens", "line_characters", "step_rows"),
    *("step_tokens", "evaluation_dtype", "part_rates"),
)
