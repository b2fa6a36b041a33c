"""Planned runs: an identity is all that a result depends on, and runs that are the same are one."""

from dataclasses import replace

import pytest
from repository import printed
from small_runs import SMOKE

from hylorada import HyLoRADAError
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.runs import Run, all_runs, cell_name, cells, plan, unfinished
from hylorada.study.plan.studies import STUDIES


@pytest.mark.parametrize(
    "changes",
    [
        dict(learning_rate=1e-3),
        dict(train_tokens=640),
        dict(base="tiny-gpt2"),
        dict(dtype="float32"),
        dict(block_tokens=32),
    ],
)
def test_identity_follows_the_settings(changes):
    before, after = plan(SMOKE, "ablation")["rslora"][0], plan(replace(SMOKE, **changes), "ablation")["rslora"][0]
    assert before.identity != after.identity and before.name != after.name


def test_identity_ignores_what_does_not_change_a_result():
    assert (
        plan(SMOKE, "ablation")["rslora"][0].identity
        == plan(replace(SMOKE, scale="x", threads=2, seeds=[0]), "ablation")["rslora"][0].identity
    )
    other = plan(replace(SMOKE, learning_rate=1.0), "ablation")
    assert plan(SMOKE, "ablation")["base"][0].identity == other["base"][0].identity


def test_planning_needs_no_torch():
    code = (
        "import sys; from hylorada.study.plan import runs, scales; from hylorada.study.paper import compile; "
        "from hylorada.study.sources import encode; "
        "runs.plan(scales.load_settings('micro'), 'ablation'); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'pandas') if m in sys.modules])"
    )
    assert printed(code).strip() == "[]"


def test_tables_page_and_archive_need_no_torch():
    code = (
        "import sys; from hylorada.study.paper import generated; from hylorada.study.page import inputs; "
        "from hylorada.study.records import compare; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert printed(code).strip() == "[]"


def test_short_runs_share_two_processes_and_long_ones_have_one_a_stage_and_a_study():
    def names(**changes) -> list[str]:
        return [name.rpartition("-")[0] for name in cells(replace(SMOKE, **changes))]

    studies = {"methods": {}, "direct": {}}
    assert names(studies={}) == ["ablation"] and names(studies=studies) == ["ablation", "studies"]
    assert names(studies=studies, train_tokens=2**14) == [*STAGES, "methods", "direct"]


def test_cells_are_named_after_all_their_runs():
    two, one = plan(SMOKE, "ablation")["rslora"], plan(replace(SMOKE, seeds=[0]), "ablation")["rslora"]
    assert cell_name("rslora", two) != cell_name("rslora", one) and cell_name("rslora", two).startswith("rslora-")


def test_studies_share_the_runs_that_are_the_same_and_each_is_in_one_cell(tmp_path):
    """With the ablation's own budget, rows that name a stage are its runs; with another they are not."""
    own = replace(SMOKE, studies={"direct": {}, "designs": {}})
    ablation, direct = plan(own, "ablation"), plan(own, "direct")
    assert [run.identity for run in direct["rslora"]] == [run.identity for run in ablation["rslora"]]
    celled = [run.name for runs in cells(own).values() for run in runs]
    assert len(celled) == len(set(celled)) and set(celled) == set(all_runs(own))
    shorter = plan(replace(own, studies={"direct": {"train_tokens": 64}}), "direct")
    assert {run.identity for run in shorter["rslora"]}.isdisjoint(run.identity for run in ablation["rslora"])
    assert shorter["base"][0].identity == ablation["base"][0].identity


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "methods_code"])
def test_every_study_is_whole(name):
    """Effects are against rows of the same table, rows of one name are one row, and no two rows are the same run."""
    settings = replace(SMOKE, studies={} if name == "ablation" else {name: {}}, train_tokens=2**14)
    rows = settings.rows(name)
    assert all(row.against is None or row.against in rows for row in rows.values())
    planned = plan(settings, name)
    identities = [run.identity for runs in planned.values() for run in runs]
    assert len(identities) == len(set(identities))
    adapters = {}
    for study in STUDIES.values():
        for key, row in study.rows.items():
            assert adapters.setdefault(key, (row.adapter, row.changes)) == (row.adapter, row.changes)


def test_an_arm_with_a_tuned_rate_trains_at_it_in_every_study_but_the_sweep():
    tuned = replace(
        SMOKE, tuned_rates={"rslora": 1e-3, "dora": 2e-4}, studies={"methods": {}, "rates": {}, "direct": {}}
    )

    def rates(row: Run) -> tuple[float, float]:
        return row.specification.training.learning_rate, row.specification.training.landmark_lr

    assert rates(plan(tuned, "ablation")["rslora"][0]) == (1e-3, 1e-3)
    assert rates(plan(tuned, "ablation")["magnitude"][0]) == (SMOKE.learning_rate, SMOKE.landmark_lr)
    methods, sweep = plan(tuned, "methods"), plan(tuned, "rates")
    assert rates(methods["dora"][0]) == (2e-4, 2e-4) and rates(methods["rslora"][0]) == (1e-3, 1e-3)
    assert rates(sweep["rslora_lr5e-05"][0]) == (5e-5, 5e-5)
    with pytest.raises(HyLoRADAError, match="tuned_rates: 'rslore' is no stage or method; did you mean 'rslora'"):
        replace(SMOKE, tuned_rates={"rslore": 1e-3})


def test_the_study_of_bases_has_rows_for_each_base_and_tokens_of_its_own():
    settings = replace(SMOKE, bases=["tiny-gpt2", "tiny-llama"], studies={"bases": {}})
    planned = plan(settings, "bases")
    assert list(planned)[:3] == ["base_tiny-gpt2", "rslora_tiny-gpt2", "landmarks_tiny-gpt2"] and len(planned) == 6
    assert {run.base for runs in planned.values() for run in runs} == set(settings.bases)


def test_a_run_is_left_without_its_record_or_with_remains_of_its_work(tmp_path):
    runs = list(all_runs(SMOKE).values())[:4]
    for run in runs[:3]:
        run.folder(tmp_path).mkdir()
        (run.folder(tmp_path) / "record.json").touch()
    (tmp_path / f".{runs[1].name}.work").mkdir()
    (tmp_path / f"..{runs[2].name}.work.4194305.gone").mkdir()  # a killed process was removing it
    assert unfinished(runs, tmp_path) == runs[1:] and unfinished(runs, tmp_path / "new") == runs
