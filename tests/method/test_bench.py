"""The benchmark: its arithmetic on known numbers, and every section once on a tiny model. No test asserts a time."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from bases import llama
from repository import ROOT

from hylorada import HyLoRADAError
from hylorada.allocator import in_use
from hylorada.bench import against, sections, timing
from hylorada.bench.against import worker
from hylorada.bench.competitors import AS_BASE, OURS, THEIRS, Setting, ours, theirs
from hylorada.bench.goals import GOALS, goals
from hylorada.bench.products import MACHINE as PRODUCTS
from hylorada.bench.products import operations, share_of_machine
from hylorada.bench.report import page, run_benchmark, save
from hylorada.bench.sections import SECTIONS
from hylorada.cli import main

BESIDE_BEFORE = ("a training step of rsLoRA", "a scored window of HyLoRADA", "generation by HyLoRADA")
MACHINE = {"versions": {"torch": "x"}, "processor": "a processor", "threads": 1, "device": "cpu", "allocator": "one"}


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Setting:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    base = llama()
    base.config.max_position_embeddings = 128  # room for a prompt and what is generated
    base.save_pretrained(folder)
    return Setting(model=str(folder), dtype="float32", tokens=16, rounds=1, against=str(ROOT))


@pytest.fixture(scope="module")
def record(setting):
    patched = pytest.MonkeyPatch()
    patched.setattr(sections, "WIDE", 64)
    patched.setattr(sections, "NORM_SHAPES", ((32, 16, 4),))
    patched.setattr(sections, "LENGTHS", (512, 1024))
    patched.setattr(against, "PARTS", {name: against.PARTS[name] for name in BESIDE_BEFORE})
    yield run_benchmark(setting, MACHINE)
    patched.undo()


def test_ratios_are_taken_within_a_round():
    """The machine is twice as slow in the second round; the ratio does not see it."""
    seconds = {"a": [1.0, 2.0, 1.0], "b": [2.0, 4.0, 2.0]}
    assert timing.ratio(seconds, "a", "b") == {"median": 0.5, "low": 0.5, "high": 0.5}
    spread = timing.ratio({"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0]}, "a", "b")
    assert spread == {"median": 2.0, "low": 1.5, "high": 2.5}


def test_all_run_in_every_round_each_time_in_another_order_and_the_first_round_does_not_count():
    ran = []
    calls = {name: lambda name=name: ran.append(name) for name in "abc"}
    seconds = timing.interleaved(calls, 9)
    assert {name: len(rows) for name, rows in seconds.items()} == {"a": 9, "b": 9, "c": 9}
    rounds = ["".join(ran[start : start + 3]) for start in range(0, len(ran), 3)]
    assert len(rounds) == 10 and {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) > 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="the known sizes are those of the processor's allocator")
def test_peak_memory_is_what_is_held_at_once():
    mib = 2**18  # float32 numbers

    def one_after_the_other():
        for _ in range(5):
            torch.empty(mib)

    def together():
        return [torch.empty(mib) for _ in range(5)]

    assert timing.peak_mib(one_after_the_other) == pytest.approx(1, abs=0.1)
    assert timing.peak_mib(together) == pytest.approx(5, abs=0.1)


def test_every_section_measures_its_competitors(record):
    assert list(record["sections"]) == list(SECTIONS)
    names = {section: [row["name"] for row in rows] for section, rows in record["sections"].items()}
    as_base = [AS_BASE.format(THEIRS[name]) for name in ("rslora", "dora")]
    assert names["training"] == [*OURS.values(), *THEIRS.values(), *as_base]
    assert names["attention"] == [f"{n} tokens, {how}" for n in ("512", "1,024") for how in ("full", "in groups")]
    assert names["before"] == list(BESIDE_BEFORE)
    assert record["sections"]["before"][0]["memory_ratio"] == 1, "the same code on both sides here"
    for rows in record["sections"].values():
        for row in rows:
            assert row["milliseconds"] > 0 and row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert record["sections"]["norms"][0]["largest_relative_error"] < 1e-5


def test_both_sides_train_the_same_numbers(record, setting):
    trained = {row["name"]: row["trained"] for row in record["sections"]["training"]}
    for method in THEIRS:
        assert trained[OURS[method]] == trained[THEIRS[method]]


def test_an_opponent_is_of_the_same_scale(setting):
    mine, peft = ours("rslora", setting), theirs("rslora", setting)
    (layer,) = {module.scaling for module in mine.modules() if type(module).__name__ == "LowRankUpdate"}
    scales = {m.scaling["default"] for m in peft.modules() if isinstance(getattr(m, "scaling", None), dict)}
    assert scales == {layer}


def test_the_page_tells_goals_and_every_row(record, tmp_path):
    text = page([record])
    for rows in record["sections"].values():
        assert all(f"| {row['name']} |" in text for row in rows)
    assert "; memory by one; " in text
    machine = {name: value for name, value in MACHINE.items() if name != "allocator"}
    assert "memory by" not in page([record | {"machine": machine}]), "an earlier record does not tell"
    here = [goal for goal in GOALS if goal.section != "before" or goal.name in BESIDE_BEFORE]
    assert len(goals(record)) == len(here) and all(goal["goal"] in text for goal in goals(record))
    saved = save(record, tmp_path / "benchmarks")
    assert saved.read_text() == text
    assert json.loads((tmp_path / "benchmarks" / "cpu-float32.json").read_text()) == json.loads(json.dumps(record))


def test_a_processor_without_bfloat16_units_is_a_kind_of_its_own(record, tmp_path):
    machine = MACHINE | {"half_products": "float32 units"}
    other = record | {"machine": machine, "setting": record["setting"] | {"dtype": "bfloat16"}}
    save(record, tmp_path)
    text = save(other, tmp_path).read_text()
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["cpu-float32.json", "cpu-widened.json"]
    assert text == page([other, record]) and "\n## CPU without bfloat16 units, by its float32 units\n" in text


@pytest.mark.parametrize(
    ("median", "low", "said"), [(0.6, 0.5, "yes"), (0.7, 0.6, "within the spread"), (1.2, 1.1, "no")]
)
def test_a_goal_is_held_to_its_median_and_its_spread(median, low, said):
    row = {"name": OURS["lora"], "ratio": {"median": median, "low": low, "high": 2.0}}
    (goal,) = goals({"sections": {"training": [row]}})
    assert goal["reached"] == said and goal["bound"] == "at most 0.65"


@pytest.mark.parametrize(
    ("median", "high", "said"), [(0.3, 0.4, "yes"), (0.2, 0.3, "within the spread"), (0.1, 0.2, "no")]
)
def test_a_goal_that_rises_is_held_from_below(median, high, said):
    row = {"name": OURS["rslora"], "of_machine": {"median": median, "low": 0.0, "high": high}}
    (goal,) = goals({"sections": {"training": [row]}})
    assert goal["reached"] == said and goal["bound"] == "at least 0.25"


def test_the_share_of_the_machine_is_the_time_of_its_products_over_the_time_of_the_call():
    """A call of 8 operations in 4 s, on a machine that does 2 in 0.25 s: 1 s of products, a quarter."""
    x = torch.ones(1, 2)
    assert operations(lambda: x @ torch.ones(2, 2)) == 8
    seconds = {"call": [4.0], PRODUCTS: [0.25]}
    assert share_of_machine(seconds, "call", 8 / 2) == {"median": 0.25, "low": 0.25, "high": 0.25}


def test_the_code_before_is_another_checkouts_process(setting, tmp_path):
    """A package of the same names stands for older code: what it answers is what comes back."""
    package = tmp_path / "hylorada"
    (package / "bench").mkdir(parents=True)
    for name, says in (("evaluation", "token_nll"), ("loss", "causal_lm_loss"), ("bench/timing", "peak_mib")):
        (package / f"{name}.py").write_text(f"{says} = None\n")
    names = "BASE = NEW_TOKENS = PROMPT = load_base = random_ids = None\nSetting = dict\n"
    (package / "bench" / "competitors.py").write_text(names + "def ours(*a):\n    raise ValueError('older code')\n")
    with worker(setting, tmp_path) as older, pytest.raises(HyLoRADAError, match="ended: ValueError: older code"):
        older.ask("step", "rslora")


def test_the_command_prints_a_section_and_writes_nothing(setting, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    assert (
        main(["bench", "--model", setting.model, "--tokens", "8", "--rounds", "1", "--only", "training", "--quiet"])
        == 0
    )
    torch.set_num_threads(threads)
    told = capsys.readouterr().out
    assert "| our HyLoRADA |" in told and f"memory by {in_use()}" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nowhere"], "nowhere is no model folder"),
        (["--only", "trainig"], "did you mean 'training'"),
        (["--rounds", "0"], "--rounds 0 is too small"),
        (["--threads", "10000000000000000000"], "--threads 10000000000000000000 is too large; use 1 to 1024"),
        (["--out", __file__], "is no folder; name a folder"),
        (["--only", "before"], "needs --against"),
        (["--against", "nowhere"], "nowhere is no checkout of hylorada"),
        (["--dtype", "int8"], "allowed: bfloat16, float32"),
    ],
)
def test_bad_input_is_told_on_one_line(arguments, said, capsys):
    assert main(["bench", *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and "\n" not in told


@pytest.mark.parametrize(("tokens", "said"), [(1, "leaves nothing to predict"), (33, "use --tokens 32 or fewer")])
def test_rows_that_do_not_fit_are_told_before_anything_is_measured(setting, tokens, said):
    with pytest.raises(HyLoRADAError, match=said):
        run_benchmark(replace(setting, tokens=tokens), MACHINE)


def test_a_model_that_does_not_load_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(HyLoRADAError, match="config.json is damaged, or no JSON"):
        run_benchmark(Setting(model=str(tmp_path)), MACHINE)


def test_without_peft_there_is_nothing_to_measure_against(setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(HyLoRADAError, match="pip install peft"):
        run_benchmark(setting, MACHINE)
