"""Each setting acts in a run of its scale, or is refused: no number stands in a scale that nothing hangs on."""

from dataclasses import replace

import pytest
from repository import ROOT, scale_file
from small_runs import SMOKE, small_scale

from hylorada import HyLoRADAError
from hylorada.study.plan.acting import CARRIES_OUT
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings, read_changes
from hylorada.study.plan.settings import Settings

SCALES = sorted(path.stem for path in (ROOT / "config").glob("*.yaml"))
OTHER = {  # a value that is none of those in use, for what is no number
    "base": "tiny-gpt2",
    "bases": ["tiny-llama", "tiny-gpt2"],
    "corpus": "code",
    "dtype": "float32",
    "target_modules": ["q_proj"],
    "adapter": {"lora_dropout": 0.3},
    "protocol": "masters_kept",
    "evaluation_split": "validation",
    "measures": {"lines": 3},
    "tuned_rates": {"rslora": 3e-3},
    "max_grad_norm": None,
    "seeds": [7],
    "train_lines": 5,
    "line_tokens": 32,
    "line_characters": 25,
    "step_rows": 2,
    "part_rates": {"position_bias": 0.5},
    "test_articles": 1,
    "test_tokens_per_article": 32,
}


def other(settings: Settings, name: str):
    """Another value of a setting, that is allowed beside the rest."""
    value = getattr(settings, name)
    if name == "compile":
        return "no" if value == "pieces" else "pieces"
    if name == "evaluation_dtype":
        return None if value else "float32"
    if name == "step_tokens":
        return 3 * settings.block_tokens
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    if name == "evaluation_stride":
        return settings.block_tokens - 1
    if name in ("block_tokens", "train_tokens"):
        return settings.block_tokens // (2 if name == "block_tokens" else 1)
    return value / 2 if isinstance(value, float) else value + 1


def essences(settings: Settings, study: str) -> set[str]:
    """What the runs of a study are, of its first seed, with the budget of the scale itself."""
    alone = replace(settings, seeds=settings.seeds[:1], studies={} if study == "ablation" else {study: {}})
    return {run.specification.essence for runs in plan(alone, study).values() for run in runs}


@pytest.mark.parametrize("scale", SCALES)
def test_another_value_of_any_setting_is_another_run_somewhere_or_says_how_it_is_carried_out(scale):
    settings, given = load_settings(scale), scale_file(scale)
    measures = {"lines": 2} if "lines" in settings.measures else {}
    lean = replace(settings, studies={}, measures=measures, evaluation_stride=settings.block_tokens // 4)
    of_lines = dict.fromkeys(("train_lines", "line_characters", "step_rows"), "as_published")
    read_by = {"bases": "bases"} | of_lines  # all others: by the ablation
    before = {study: essences(lean, study) for study in {read_by.get(name, "ablation") for name in given}}
    for name in given.keys() - {*CARRIES_OUT, "studies"}:  # which say how, and which runs there are
        study = read_by.get(name, "ablation")
        assert study in settings.tables, name
        assert essences(replace(lean, **{name: other(settings, name)}), study) != before[study], name


def test_what_the_corrected_protocol_leaves_to_a_scale_acts_in_its_runs_and_is_written_in_them():
    asked = ["weight_decay=0.5", "warmup_ratio=0.2", "max_grad_norm=null", "position_bias_lr=2e-2", "embedding_lr=3e-4"]
    settings = load_settings("smoke", read_changes(asked))
    wanted = {"weight_decay": 0.5, "warmup_ratio": 0.2, "max_grad_norm": None, "position_bias_lr": 2e-2}
    for study, row in (("ablation", "landmarks"), ("methods", "dora")):
        asked_for = plan(settings, study)[row][0].specification
        for name, value in wanted.items() | {("embedding_lr", 3e-4)}:
            assert getattr(asked_for.training, name) == getattr(asked_for.protocol, name) == value
    published = plan(settings, "as_published")["published_rslora"][0].specification
    assert published == plan(SMOKE, "as_published")["published_rslora"][0].specification


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_lines": 5, "studies": {}}, "train_lines: 5 acts in no run of this scale"),
        ({"line_tokens": 32, "measures": {}}, "line_tokens: 32 acts in no run"),
        ({"bases": ["tiny-gpt2"]}, "bases: ['tiny-gpt2'] acts in no run"),
        (
            {"protocol": "as_published", "learning_rate": 1e-3},
            "learning_rate: 0.001 acts in no run of this scale (there it is 0.0005)",
        ),
        ({"protocol": "as_published", "train_tokens": 128}, "train_tokens: 128 acts in no run"),
        ({"adapter": {"s2_group_size": 8}}, "adapter: 's2_group_size' cannot be set here"),
        ({"studies": {"as_published": {"train_tokens": 128}}}, "studies, as_published, train_tokens: 128 acts in no"),
        ({"studies": {"as_published": {"num_epochs": 2}}}, "studies, as_published, num_epochs: 2 acts in no run"),
        ({"studies": {"as_published": {"part_rates": {"landmark": 1e-2}}}}, "studies, as_published, part_rates"),
        ({"studies": {"as_published": {"step_tokens": 128}}}, "studies, as_published, step_tokens: 128 acts in no run"),
        ({"step_rows": 1, "studies": {}}, "step_rows: 1 acts in no run"),
        ({"studies": {"methods": {"train_lines": 3}}}, "studies, methods, train_lines: 3 acts in no run"),
    ],
)
def test_a_setting_on_which_no_run_hangs_is_refused_with_what_stands_there_instead(tmp_path, changes, message):
    pairs = {name: value for name, value in changes.items() if name != "studies"}
    with pytest.raises(HyLoRADAError) as error:
        load_settings(small_scale(tmp_path, studies=changes.get("studies", {})), pairs or None)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_settings_that_a_change_leaves_idle_are_no_fault_of_who_makes_it(tmp_path):
    settings = load_settings("smoke", {"studies": {}})
    assert settings.train_lines == 16 and settings.tables == ["ablation"]
    assert load_settings("smoke", {"protocol": "as_published", "measures": {}}).learning_rate == 5e-4
