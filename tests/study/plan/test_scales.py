"""Scales: every file is whole, and what cannot be meant is refused in words."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from repository import ROOT
from small_runs import SMOKE, small_scale

from hylorada import HyLoRADAError
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings, read_changes
from hylorada.study.plan.settings import Settings

SCALES = ["smoke", "micro", "full", "gpt2"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_whole_and_plans_all_six_stages(scale):
    settings = load_settings(scale)
    runs = plan(settings, "ablation")
    assert list(runs) == list(STAGES) and len(runs["base"]) == 1
    assert all(len(runs[stage]) == len(settings.seeds) for stage in list(STAGES)[1:])
    assert len({run.identity for group in runs.values() for run in group}) == 1 + 5 * len(settings.seeds)


def test_scales_explain_every_setting_in_micro():
    text = (ROOT / "config" / "micro.yaml").read_text()
    assert set(yaml.safe_load(text)) == {f.name for f in fields(Settings)} - {"scale"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [0]}, "'seed' is no setting; did you mean 'seeds'"),
        ({"block_tokens": "64"}, "block_tokens"),
        ({"block_tokens": 1}, "block_tokens: 1 leaves nothing"),
        ({"train_tokens": 100}, "no multiple of block_tokens: 64"),
        ({"evaluation_stride": 65}, "evaluation_stride: 65"),
        ({"test_tokens_per_article": 1}, "scores nothing"),
        ({"dtype": "float16"}, "dtype"),
        ({"compile": "all"}, "compile='all' is of the wrong kind; give one of 'pieces', 'no'"),
        ({"compile": True}, "compile=True"),
        ({"seeds": [1, 1]}, "each once"),
        ({"studies": {"desings": {}}}, "did you mean 'designs'"),
        ({"studies": {"direct": {"seed": [0]}}}, "'seed' is no budget; did you mean 'seeds'"),
        ({"studies": {"direct": {"train_tokens": 100}}}, "in the study 'direct': scale 'small', train_tokens: 100"),
        ({"studies": ["direct"]}, "studies"),
        ({"learning_rate": True}, "learning_rate"),
        ({"threads": 0}, "threads: 0"),
        ({"protocol": "publised"}, "protocol: 'publised' is not known; did you mean"),
        ({"measures": {"line": 4}}, "measures: 'line' is not known; did you mean 'lines'"),
        ({"measures": {"lines": 0}}, "measures, lines: 0 is no amount"),
        ({"measures": {"retrieval": None}}, "measures, retrieval: None is no amount"),
        ({"line_tokens": 1}, "line_tokens: 1 leaves nothing"),
        ({"protocol": "as_published", "measures": {"shifts": 2}}, "shifts need texts as long as a window"),
        ({"studies": {"landmark_study": {"measures": {"shifts": None}}}}, "in the study 'landmark_study'"),
        ({"train_lines": 0}, "train_lines: 0"),
        ({"adapter": {"lora_rnk": 4}}, "adapter: 'lora_rnk' cannot be set here; did you mean 'lora_rank'"),
        ({"adapter": {"lora_target_modules": ["q_proj"]}}, "adapter: 'lora_target_modules' cannot be set here"),
        ({"adapter": {"lora_rank": 0}}, "adapter: lora_rank=0"),
        ({"bases": []}, "bases: [] must name at least one"),
        ({"landmark_lr": 0.0}, "landmark_lr: 0.0"),
        ({"seeds": [2**32]}, "seeds: 4294967296 is not allowed; use 0 to 4294967295"),
        ({"seeds": [-1]}, "seeds: -1 is not allowed"),
        ({"warmup_ratio": 1.0}, "warmup_ratio must be"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: 0"),
    ],
)
def test_misused_scales_say_what_is_wrong(tmp_path, changes, message):
    with pytest.raises(HyLoRADAError) as error:
        load_settings(small_scale(tmp_path, **changes))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_may_be_written_as_people_write_them_and_a_key_once(tmp_path):
    scale = Path(small_scale(tmp_path))
    asked = read_changes(["learning_rate=1e-3", "max_grad_norm=2", "weight_decay=0"])
    settings = load_settings(str(scale), asked)
    assert (settings.learning_rate, settings.max_grad_norm, settings.weight_decay) == (1e-3, 2.0, 0.0)
    with pytest.raises(HyLoRADAError, match="learning_rate"):
        load_settings(str(scale), {"learning_rate": "fast"})
    (tmp_path / "marked.yaml").write_text("\ufeff" + scale.read_text(), encoding="utf-8")  # as some editors save
    assert replace(load_settings(str(tmp_path / "marked.yaml")), scale=settings.scale) == load_settings(str(scale))
    scale.write_text(scale.read_text() + "\nthreads: 2\n")
    with pytest.raises(HyLoRADAError, match="'threads' is given twice"):
        load_settings(str(scale))


def test_what_is_compiled_is_part_of_a_run_and_no_is_a_word_here(tmp_path):
    plain = load_settings(small_scale(tmp_path))
    for said in ("no", '"no"', "false"):
        assert load_settings(small_scale(tmp_path), read_changes([f"compile={said}"])) == plain
    pieces = load_settings(small_scale(tmp_path), read_changes(["compile=pieces"]))
    before, after = (plan(settings, "ablation")["base"][0].specification for settings in (plain, pieces))
    assert (before.compile, after.compile) == (None, "pieces") and before.identity != after.identity
    assert "compile" not in before.to_json() and after.to_json()["compile"] == "pieces"
    assert [load_settings(scale).compile for scale in SCALES] == ["no", "no", "pieces", "no"]


def test_missing_keys_and_unknown_scales_are_told(tmp_path):
    (tmp_path / "bare.yaml").write_text("base: tiny-llama\n")
    with pytest.raises(HyLoRADAError, match="corpus, dtype, .* missing"):
        load_settings(str(tmp_path / "bare.yaml"))
    with pytest.raises(HyLoRADAError, match="did you mean 'micro'"):
        load_settings("mikro")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(HyLoRADAError, match="or no YAML"):
        load_settings(str(tmp_path / "broken.yaml"))


def test_settings_can_be_replaced_from_the_command_line_in_budgets_too():
    """The published benchmark program's options, as settings."""
    asked = ["block_tokens=32", "num_epochs=3", "train_tokens=null", "adapter={s2_attn_enabled: true}"]
    settings = load_settings("smoke", read_changes(asked))
    assert settings.studies["methods"] == {"seeds": [0]}  # its train_tokens are gone, its seeds are not
    for planned in (plan(settings, "ablation")["rslora"][0], plan(settings, "methods")["dora"][0]):
        asked = planned.specification
        assert (asked.block_tokens, asked.train_tokens, asked.training.num_epochs) == (32, None, 3)
        assert asked.adapter.s2_attn_enabled and asked.adapter.s2_group_size == 8
    for pair, message in (
        ("epochs=3", "no such setting"),
        ("num_epochs", "no NAME=VALUE"),
        ("=3", "no NAME=VALUE"),
        ("seeds=[", "YAML"),
        ("seeds=[-1]", "seeds: -1 is not allowed"),
        ("studies=null", "studies"),
        ("studies={direct: {rows: 3}}", "rows: 3 is no list"),
        ("studies={direct: {rows: [3]}}", "is no list of names"),
    ):
        with pytest.raises(HyLoRADAError, match=message):
            load_settings("smoke", read_changes([pair]))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"rows": ["rslora", "landmark"]}, "'landmark' keeps no row; did you mean"),
        ({"rows": ["recommended", "base"]}, "'recommended' is held against 'rslora', which is left out"),
    ],
)
def test_a_scale_that_keeps_some_rows_keeps_what_they_are_held_against(budget, message):
    kept = replace(SMOKE, studies={"direct": {"rows": ["base", "rslora*"]}})
    assert list(plan(kept, "direct")) == ["base", "rslora", "rslora_landmarks", "rslora_r16"]
    with pytest.raises(HyLoRADAError, match=message):
        replace(SMOKE, studies={"direct": budget})
