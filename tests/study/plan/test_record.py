"""A record is read as it was written or not at all, and what is wrong with one is told on one line at every door."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_records import fake_study
from repository import ROOT

from hylorada.cli import main
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.specification import Articles, LinesText, Specification
from hylorada.typed import QUIET, plain, read

KEPT = sorted((ROOT / "data" / "reference" / "micro").glob("*/record.json"))
SCALES = sorted(path.stem for path in (ROOT / "config").glob("*.yaml"))


def test_every_kept_record_comes_back_byte_by_byte_and_names_its_own_identity():
    assert len(KEPT) > 100
    for path in KEPT:
        record = read_record(path)
        assert json.dumps(record.to_json(), indent=2, sort_keys=True) + "\n" == path.read_text(), path.parent.name
        assert record.specification.identity == record.identity and record.name.endswith(record.identity[:8])


def test_a_record_of_the_first_form_is_read_with_what_it_lacks_left_empty():
    (path,) = (ROOT / "data" / "reference" / "inside").glob("*/record.json")
    record = read_record(path)
    assert record.specification.protocol is None and record.measures.lines is None and record.moved == {}
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("scale", SCALES)
def test_every_planned_specification_comes_back_from_json(scale):
    for run in all_runs(load_settings(scale)).values():
        specification = Specification.from_json(json.loads(json.dumps(run.specification.to_json())))
        assert specification == run.specification and specification.identity == run.identity
        if run.seed is not None:
            assert isinstance(specification.adapter, HyLoRADAConfig) and specification.training.seed == run.seed


def test_essence_forgets_the_code_and_a_row_its_seed_and_nothing_else():
    runs = all_runs(load_settings("micro")).values()
    some = next(run.specification for run in runs if run.seed == 1)
    assert replace(some, code="other").essence == some.essence != some.identity
    assert replace(some, dtype="float32").essence != some.essence
    assert some.compile is None and replace(some, compile="pieces").essence != some.essence
    other_seed = replace(some, training=replace(some.training, seed=7))
    assert other_seed.essence != some.essence and other_seed.but_for_seed == some.but_for_seed


def test_the_text_of_an_evaluation_is_told_by_its_fields():
    windows = {"max_length": 8, "stride": 8, "batch_size": 1}
    articles = read(Articles | LinesText, windows | {"articles": None, "tokens_per_article": 9}, "evaluation")
    lines = {"split": "test", "count": 3, "longer_than": None, "stripped": False}
    assert articles == Articles(**windows, articles=None, tokens_per_article=9)
    assert isinstance(read(Articles | LinesText, windows | {"lines": lines, "min_tokens": 2}, "x"), LinesText)


@dataclass(frozen=True)
class Form:
    count: int
    rate: float
    on: bool
    names: tuple[str, ...] = ()
    later: dict[str, int] = field(default_factory=dict)
    quiet: int | None = field(default=None, metadata=QUIET)


def test_values_keep_their_kind_and_a_quiet_field_is_not_written():
    form = read(Form, {"count": 3, "rate": 2, "on": True, "names": ["a"]}, "form")
    assert form == Form(3, 2, True, ("a",)) and type(form.rate) is int, "a whole number stays what it is"
    assert plain(form) == {"count": 3, "rate": 2, "on": True, "names": ["a"], "later": {}}
    assert plain(replace(form, quiet=5))["quiet"] == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "form is None, and not names with values"),
        ([], r"form is \[\], and not names"),
        ({}, "form lacks count, rate, on"),
        ({"count": True, "rate": 1.0, "on": True}, "form.count is True, and not a whole number"),
        ({"count": 1.0, "rate": 1.0, "on": True}, "form.count is 1.0, and not a whole number"),
        ({"count": 1, "rate": "1", "on": True}, "form.rate is '1', and not a number"),
        ({"count": 1, "rate": 1.0, "on": 1}, "form.on is 1, and not true or false"),
        ({"count": 1, "rate": 1.0, "on": True, "names": ["a", 2]}, r"form.names\[1\] is 2, and not text"),
        ({"count": 1, "rate": 1.0, "on": True, "later": {"x": None}}, "form.later.x is None, and not a whole"),
        ({"count": 1, "rate": 1.0, "on": True, "ratte": 1}, "'ratte' is not known; did you mean 'rate'"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(values, message):
    with pytest.raises(HyLoRADAError, match=message):
        read(Form, values, "form")


DAMAGES = {
    "empty": lambda record: {},
    "list": lambda record: [],
    "null": lambda record: None,
    "without results": lambda record: {name: value for name, value in record.items() if name != "results"},
    "text for a number": lambda record: record | {"evaluation_seconds": "8"},
    "a field too many": lambda record: record | {"resutls": {}},
    "another adapter": lambda record: record | {"specification": record["specification"] | {"adapter": {"rank": 8}}},
    "rank zero": lambda record: record["specification"]["adapter"].update(lora_rank=0) or record,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    fake_study(folder, scale="smoke", seeds=2)
    return folder


DOORS = [("compare", damage) for damage in DAMAGES]
DOORS += [(verb, "empty") for verb in ("table", "claims", "figure ablation", "why", "run --dry-run")]


@pytest.mark.parametrize(("verb", "damage"), DOORS)
def test_a_damaged_record_is_one_line_at_every_door(study, tmp_path, capsys, monkeypatch, verb, damage):
    records = tmp_path / "records"
    shutil.copytree(study, records)
    (path,) = records.glob("rslora-seed1-*/record.json")
    write_json(path, DAMAGES[damage](read_json(path)))
    monkeypatch.chdir(tmp_path)
    more = {"compare": ["--reference", str(study)], "why": ["--scale", "smoke", str(path.parent)]}
    words = more.get(verb, ["--scale", "smoke"])
    assert main([*verb.split(), *words, "--records", str(records)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{path.parent.name}/record.json is no whole record" in line and line.endswith("make the run again.")
    assert [each.name for each in tmp_path.iterdir()] == ["records"], "nothing is half-written"
