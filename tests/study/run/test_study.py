"""Settings, plan, identity, tokens, records: what the study runs, and that a record is never taken for another."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import hylorada
from hylorada import HyLoRADAError
from hylorada.cli import main
from hylorada.files import read_json
from hylorada.nll import TokenNLL
from hylorada.study.checkout import project_root
from hylorada.study.plan import digest
from hylorada.study.plan.runs import Run, all_runs, cell_name, cells, plan, plan_study
from hylorada.study.plan.scales import load_settings, read_changes
from hylorada.study.plan.settings import MEASURES, Settings
from hylorada.study.plan.stages import STAGES
from hylorada.study.plan.studies import STUDIES
from hylorada.study.run.execute import execute
from hylorada.study.sources.encode import make_tokens, tokens_path
from hylorada.study.sources.fetch import fetch_corpus, fetch_model
from hylorada.study.sources.identity import model_folder
from hylorada.study.sources.lines import Lines
from hylorada.study.sources.tokens import encode, read_tokens, write_tokens

SCALES = ["smoke", "micro", "full", "gpt2"]
SMOKE = load_settings("smoke")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder with the smoke scale's model, corpus and tokens."""
    folder = tmp_path_factory.mktemp("data")
    fetch_model(SMOKE.base, folder, progress=False)
    fetch_corpus(SMOKE.corpus, folder, progress=False)
    make_tokens(SMOKE.base, SMOKE.corpus, folder)
    return folder


def quick(tmp_path: Path, **changes) -> str:
    """A scale of one seed and four steps as a file, with changes."""
    values = yaml.safe_load((project_root() / "config" / "smoke.yaml").read_text()) | {"studies": {}}
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(values | {"seeds": [0], "checkpoint_every": 1} | changes))
    return str(path)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_whole_and_plans_all_six_stages(scale):
    settings = load_settings(scale)
    runs = plan(settings)
    assert list(runs) == list(STAGES) and len(runs["base"]) == 1
    assert all(len(runs[stage]) == len(settings.seeds) for stage in list(STAGES)[1:])
    assert len({run.identity for group in runs.values() for run in group}) == 1 + 5 * len(settings.seeds)


def test_scales_explain_every_setting_in_micro():
    text = (project_root() / "config" / "micro.yaml").read_text()
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
        ({"seeds": [1, 1]}, "each once"),
        ({"studies": {"desings": {}}}, "did you mean 'designs'"),
        ({"studies": {"direct": {"seed": [0]}}}, "'seed' is no budget; did you mean 'seeds'"),
        ({"studies": {"direct": {"train_tokens": 100}}}, "in the study 'direct': scale 'quick', train_tokens: 100"),
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
        load_settings(quick(tmp_path, **changes))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_may_be_written_as_people_write_them_and_a_key_once(tmp_path):
    scale = Path(quick(tmp_path))
    asked = read_changes(["learning_rate=1e-3", "max_grad_norm=2", "weight_decay=0"])
    settings = load_settings(str(scale), asked)
    assert (settings.learning_rate, settings.max_grad_norm, settings.weight_decay) == (1e-3, 2.0, 0.0)
    with pytest.raises(HyLoRADAError, match="learning_rate"):
        load_settings(str(scale), {"learning_rate": "fast"})
    scale.write_text(scale.read_text() + "\nthreads: 2\n")
    with pytest.raises(HyLoRADAError, match="'threads' is given twice"):
        load_settings(str(scale))


def test_missing_keys_and_unknown_scales_are_told(tmp_path):
    (tmp_path / "bare.yaml").write_text("base: tiny-llama\n")
    with pytest.raises(HyLoRADAError, match="corpus, dtype, .* missing"):
        load_settings(str(tmp_path / "bare.yaml"))
    with pytest.raises(HyLoRADAError, match="did you mean 'micro'"):
        load_settings("mikro")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(HyLoRADAError, match="not readable YAML"):
        load_settings(str(tmp_path / "broken.yaml"))


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
    before, after = plan(SMOKE)["rslora"][0], plan(replace(SMOKE, **changes))["rslora"][0]
    assert before.identity != after.identity and before.name != after.name


def test_identity_ignores_what_does_not_change_a_result():
    assert (
        plan(SMOKE)["rslora"][0].identity == plan(replace(SMOKE, scale="x", threads=2, seeds=[0]))["rslora"][0].identity
    )
    assert plan(SMOKE)["base"][0].identity == plan(replace(SMOKE, learning_rate=1.0))["base"][0].identity


def test_identity_follows_the_code_but_not_its_comments(tmp_path, monkeypatch):
    root = Path(hylorada.__file__).parent
    for path in root.rglob("*.py"):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())

    def source(name: str) -> Path:
        path = tmp_path.joinpath(*name.split(".")[1:])
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    monkeypatch.setattr(digest, "_source", source)
    before_edits = digest.code_digest("hylorada.study.run.execute")
    for name, more, differs in (
        ("lora.py", "\n# a remark\n", False),
        ("cli.py", "\nX = 1\n", False),
        ("study/plan/stages.py", "\nX = 1\n", False),  # a new row reruns nothing: its settings are in the specification
        ("lora.py", "\nX = 1\n", True),
        ("study/sources/tokens.py", "\nX = 1\n", True),
    ):
        path = tmp_path / name
        before = path.read_text()
        path.write_text(before + more)
        assert (digest.code_digest("hylorada.study.run.execute") != before_edits) is differs, name
        path.write_text(before)


def test_planning_needs_no_torch():
    code = (
        "import sys; from hylorada.study.plan import runs, scales; from hylorada.study.paper import compile; "
        "from hylorada.study.sources import encode; "
        "runs.plan(scales.load_settings('micro')); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_blocks_are_whole_spread_over_the_text_and_hold_every_token_in_order(data):
    text = read_tokens(tokens_path(SMOKE.base, SMOKE.corpus, data))
    every = text.train_blocks(64, None)
    stream = np.concatenate([np.append(ids, text.end) for ids in text.articles["train"]])
    assert np.array_equal(np.concatenate(every), stream[: 64 * len(every)])
    some = text.train_blocks(64, 512)
    places = [next(i for i, block in enumerate(every) if np.array_equal(block, b)) for b in some]
    assert len(some) == 8 and np.ptp(np.diff(places)) <= 1 and places[-1] > 0.8 * len(every)
    with pytest.raises(HyLoRADAError, match="are asked for"):
        text.train_blocks(64, 64 * (len(every) + 1))


def test_train_and_test_articles_do_not_meet(data):
    text = read_tokens(tokens_path(SMOKE.base, SMOKE.corpus, data))
    splits = {name: {ids.tobytes() for ids in articles} for name, articles in text.articles.items()}
    assert not splits["train"] & splits["test"] and not splits["train"] & splits["validation"]


class Letters:
    """A tokenizer with one token a character, as far as `encode` asks it."""

    eos_token_id = 0

    def __call__(self, texts: list[str], **options) -> dict:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


TEXTS = {
    "train": ["", "ab\n\ncd e", "f"],  # a blank article, one with a blank line, one of a line
    "validation": ["g"],
    "test": ["hij", "k"],
}


def test_token_files_hold_articles_and_lines_and_are_read_strictly(tmp_path):
    path = tmp_path / "t.npz"
    write_tokens(path, encode(Letters(), TEXTS), sources={"base": {"name": "x"}})
    text = read_tokens(path)

    def spell(ids) -> str:
        return "".join(map(chr, ids))

    assert [spell(ids) for ids in text.articles["train"]] == ["ab\n\ncd e", "f"]
    assert [spell(ids) for ids in text.held_out("test", 1, 2)] == ["hi"]
    lines = text.lines["train"]
    assert [spell(lines[n]) for n in range(len(lines.ends))] == ["", "ab\n", "", "cd e\n", "f\n"]
    assert lines.article.tolist() == [0, 0, 0, 0, 1]  # the blank article's line counts to the first
    assert lines.characters.tolist() == [0, 3, 0, 5, 2] and lines.stripped.tolist() == [0, 2, 0, 4, 1]
    ids, articles = text.published_lines(Lines("train", 2, longer_than=2))
    assert [spell(line) for line in ids] == ["ab\n", "cd e\n"] and articles.tolist() == [0, 0]
    with pytest.raises(HyLoRADAError, match="train text has 5 lines and 6 are asked for"):
        text.published_lines(Lines("train", 6))
    with pytest.raises(HyLoRADAError, match="run `hylorada tokens` first"):
        read_tokens(tmp_path / "none.npz")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(HyLoRADAError, match="no readable token file"):
        read_tokens(path)


def run(scale: str, stage: str, data: Path, results: Path, *more: str) -> int:
    places = ["--data", str(data), "--records", str(results)]
    return main(["run", "--scale", scale, "--stage", stage, "--quiet", *places, *more])


def test_a_record_says_what_it_is_and_what_made_it(data, tmp_path):
    scale, results = quick(tmp_path), tmp_path / "results"
    assert run(scale, "learned_buckets", data, results, "--summary", str(tmp_path / "s.json")) == 0
    (planned,) = plan(load_settings(scale))["learned_buckets"]
    folder = planned.folder(results)
    record = json.loads((folder / "record.json").read_text())
    assert record["identity"] == planned.identity and record["specification"] == planned.specification
    assert len(record["training"]["history"]) == 4 and record["results"]["scored_tokens"] > 300
    assert record["parameters"]["landmark"] > 0 and record["machine"]["threads"] == 1
    assert {"torch", "transformers", "python"} <= set(record["machine"]["versions"])
    assert record["started"] <= record["finished"] and record["peak_memory_gib"]["process"] > 0.1
    boundaries = record["learned"]["landmark.boundaries"]
    assert len(boundaries) == 31 and any(name.endswith("combine.gate") for name in record["learned"])
    assert {p.name for p in folder.iterdir()} == {"record.json", "nll.npz", "lines.npz", "adapter"}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "work of a finished run must go"
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert row["identity"] == planned.identity
    before = (folder / "record.json").stat().st_mtime_ns
    assert run(scale, "learned_buckets", data, results) == 0
    assert (folder / "record.json").stat().st_mtime_ns == before, "a record is written once"


def test_equal_runs_give_equal_bits(data, tmp_path):
    scale = quick(tmp_path)
    stored = []
    for name in ("one", "two"):
        assert run(scale, "landmarks", data, tmp_path / name) == 0
        (planned,) = plan(load_settings(scale))["landmarks"]
        with np.load(planned.folder(tmp_path / name) / "nll.npz") as file:
            stored.append(file["nll"])
    assert np.array_equal(*stored)


def test_a_killed_run_resumes_where_it_stood_and_ends_with_the_same_bits(data, tmp_path):
    """Killed for good (SIGKILL) in the middle of training, in a process of its own."""
    scale, results = quick(tmp_path, num_epochs=2), tmp_path / "results"
    (planned,) = plan(load_settings(scale))["magnitude"]
    kill = (
        "import os, signal; from hylorada import trainer, cli\n"
        "save = trainer.HyLoRADATrainer._save_state\n"
        "def then_die(self):\n    save(self)\n    len(self.history) == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "trainer.HyLoRADATrainer._save_state = then_die\n"
        f"cli.main(['run', '--scale', {scale!r}, '--stage', 'magnitude', '--quiet', '--data', {str(data)!r}, "
        f"'--records', {str(results)!r}])"
    )
    died = subprocess.run([sys.executable, "-c", kill], env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert died.returncode == -9
    work = results / f".{planned.name}.work"
    assert len(json.loads((work / "training_state" / "step-00000003" / "state.json").read_text())["history"]) == 3
    assert not planned.folder(results).exists(), "nothing half-written may look finished"
    assert run(scale, "magnitude", data, results) == 0
    assert run(scale, "magnitude", data, tmp_path / "whole") == 0
    both = [json.loads((planned.folder(r) / "record.json").read_text()) for r in (results, tmp_path / "whole")]
    assert both[0]["training"]["history"] == both[1]["training"]["history"]
    assert both[0]["results"] == both[1]["results"]
    for name in ("nll.npz", "adapter/hylorada.safetensors"):
        one, other = (planned.folder(r) / name for r in (results, tmp_path / "whole"))
        assert one.read_bytes() == other.read_bytes(), name


def test_two_processes_do_not_work_on_one_run(data, tmp_path, capsys):
    scale, results = quick(tmp_path), tmp_path / "results"
    (planned,) = plan(load_settings(scale))["base"]
    work = results / f".{planned.name}.work"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(scale, "base", data, results) == 2
    assert "another process is at work" in capsys.readouterr().err
    assert run(scale, "base", data, results) == 0


def test_train_and_evaluate_by_hand_give_the_record(data, tmp_path, capsys):
    scale, out = quick(tmp_path), tmp_path / "adapter"
    common = ["--scale", scale, "--data", str(data), "--quiet"]
    assert main(["train", "--stage", "rslora", "--seed", "0", "--out", str(out), *common]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--adapter", str(out), "--out", str(tmp_path / "nll.npz"), *common]) == 0
    by_hand = json.loads(capsys.readouterr().out)
    assert run(scale, "rslora", data, tmp_path / "results") == 0
    (planned,) = plan(load_settings(scale))["rslora"]
    record = json.loads((planned.folder(tmp_path / "results") / "record.json").read_text())
    assert by_hand.items() <= record["results"].items()


def test_an_adapter_trained_by_hand_is_exported_or_refused_by_the_part_that_cannot_be(data, tmp_path, capsys):
    base, common = str(model_folder(SMOKE.base, data)), ["--scale", quick(tmp_path), "--data", str(data), "--quiet"]
    for stage in ("magnitude", "landmarks"):
        assert main(["train", "--stage", stage, "--out", str(tmp_path / stage), *common]) == 0
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "magnitude"), "--base", base, "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert main(["export", str(tmp_path / "landmarks"), "--base", base, "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err
    assert "position_bias" in told and "landmark" in told and not (tmp_path / "no").exists()
    plain = ["--svd-rank", "16", "--drop", "--out", str(tmp_path / "plain")]
    assert main(["export", str(tmp_path / "landmarks"), "--base", base, *plain]) == 0
    assert "relative error: mean" in capsys.readouterr().out and (tmp_path / "plain" / "svd_error.json").is_file()
    assert main(["export", str(out), "--base", str(tmp_path), "--out", str(tmp_path / "no")]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--scale", "smoke", "--stage", "rslra"], "did you mean 'rslora'"),
        (["run", "--scale", "smok"], "did you mean 'smoke'"),
        (["train", "--scale", "smoke", "--stage", "base", "--out", "x"], "nothing to train"),
        (["figure", "ablatoin", "--scale", "smoke"], "did you mean 'ablation'"),
        (["fetch", "--model", "smollm3"], "did you mean 'smollm2-135m'"),
        (["run", "--scale", "smoke", "--data", "nowhere"], "run `hylorada tokens` first"),
        (["evaluate", "--scale", "smoke", "--adapter", "nowhere", "--data", "DATA"], "no adapter folder"),
        (["evaluate", "--scale", "smoke", "--adapter", "nowhere", "--data", "neither"], "no adapter folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(data) if word == "DATA" else word for word in arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("hylorada: ") and message in told
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("more", "message"),
    [([], "is a file; name a folder"), (["--seed", "-1", "--out", "new"], "seeds: -1 is not allowed")],
)
def test_a_training_that_could_not_be_kept_does_not_begin(tmp_path, capsys, more, message):
    (tmp_path / "note.txt").write_text("mine")
    command = ["train", "--scale", "smoke", "--stage", "rslora", "--out", str(tmp_path / "note.txt"), *more]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"] and (tmp_path / "note.txt").read_text() == "mine"


def test_a_folder_of_other_things_is_never_replaced_by_an_adapter(tmp_path, capsys):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "notes.txt").write_text("mine")
    command = ["train", "--scale", "smoke", "--stage", "rslora", "--out", str(tmp_path / "precious")]
    assert main(command) == 2
    assert "holds other things (notes.txt)" in capsys.readouterr().err
    assert (tmp_path / "precious" / "notes.txt").read_text() == "mine"


def test_a_place_that_may_not_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "closed/runs")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(["fetch", "--model", "tiny-gpt2", "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "hylorada: closed/runs: Permission denied; allow it, or name another place.\n"


def test_dry_run_lists_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--scale", "gpt2", "--dry-run"]) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    count = len(all_runs(load_settings("gpt2")))
    assert len(lines) == count > 51 and all(line.startswith("to do") for line in lines)
    assert summary.startswith(f"0 done, {count} to do: about ") and " h of one process" in summary
    assert "at the pace of the reference records (cpu, " in summary
    assert list(tmp_path.iterdir()) == []


def test_a_run_refuses_a_model_or_tokens_that_are_not_what_its_identity_names(data, tmp_path, capsys):
    """An identity speaks of the pins of today; what lies in the data folder may be of yesterday, or tampered with."""
    scale = quick(tmp_path)
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    source = model_folder(SMOKE.base, mine) / "source.json"
    honest = source.read_text()
    source.write_text(json.dumps(json.loads(honest) | {"identity": {"name": "older"}}))
    assert run(scale, "base", mine, tmp_path / "r") == 2
    assert "of an older pin; run `hylorada fetch`" in capsys.readouterr().err
    source.write_text(honest)
    tokens = tokens_path(SMOKE.base, SMOKE.corpus, mine)
    text = read_tokens(tokens)
    with np.load(tokens) as columns:
        held = {name: columns[name] for name in columns if name != "sources"}
    write_tokens(tokens, held, text.sources | {"corpus": {"name": "other"}})
    assert run(scale, "base", mine, tmp_path / "r") == 2
    assert "the tokens are of another model or text" in capsys.readouterr().err
    weights = model_folder(SMOKE.base, mine) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert run(scale, "base", mine, tmp_path / "r") == 2
    assert "was changed after it was fetched" in capsys.readouterr().err
    assert not list((tmp_path / "r").glob("*/record.json"))


def test_a_record_made_meanwhile_by_another_process_is_taken_and_not_made_again(data, tmp_path):
    scale, records = quick(tmp_path), tmp_path / "r"
    assert run(scale, "base", data, records) == 0
    (planned,) = plan(load_settings(scale))["base"]
    before = (planned.folder(records) / "record.json").stat().st_mtime_ns
    model, tokens = model_folder(SMOKE.base, data), tokens_path(SMOKE.base, SMOKE.corpus, data)
    assert execute(planned, planned.folder(records), model, tokens, False)["identity"] == planned.identity
    assert (planned.folder(records) / "record.json").stat().st_mtime_ns == before


def test_cells_are_named_after_all_their_runs():
    two, one = plan(SMOKE)["rslora"], plan(replace(SMOKE, seeds=[0]))["rslora"]
    assert cell_name("rslora", two) != cell_name("rslora", one) and cell_name("rslora", two).startswith("rslora-")


def test_work_left_beside_a_record_is_cleared_away(tmp_path, data):
    """As by a kill between the writing of the record and the end of the process."""
    scale, results = quick(tmp_path), tmp_path / "runs"
    assert run(scale, "base", data, results) == 0
    (planned,) = plan(load_settings(scale))["base"]
    made = (planned.folder(results) / "record.json").stat().st_mtime_ns
    left = results / f".{planned.name}.work"
    (left / "training_state").mkdir(parents=True)
    assert run(scale, "base", data, results) == 0
    assert not left.exists() and (planned.folder(results) / "record.json").stat().st_mtime_ns == made


def test_studies_share_the_runs_that_are_the_same_and_each_is_in_one_cell(tmp_path):
    """With the ablation's own budget, rows that name a stage are its runs; with another they are not."""
    own = replace(SMOKE, studies={"direct": {}, "designs": {}})
    ablation, direct = plan(own), plan_study(own, "direct")
    assert [run.identity for run in direct["rslora"]] == [run.identity for run in ablation["rslora"]]
    celled = [run.name for runs in cells(own).values() for run in runs]
    assert len(celled) == len(set(celled)) and set(celled) == set(all_runs(own))
    shorter = plan_study(replace(own, studies={"direct": {"train_tokens": 64}}), "direct")
    assert {run.identity for run in shorter["rslora"]}.isdisjoint(run.identity for run in ablation["rslora"])
    assert shorter["base"][0].identity == ablation["base"][0].identity


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "methods_code"])
def test_every_study_is_whole(name):
    """Effects are against rows of the same table, rows of one name are one row, and no two rows are the same run."""
    rows = replace(SMOKE, studies={name: {}}, train_tokens=2**14).rows(name)
    assert all(row.against is None or row.against in rows for row in rows.values())
    planned = plan_study(replace(SMOKE, studies={name: {}}, train_tokens=2**14), name)
    identities = [run.identity for runs in planned.values() for run in runs]
    assert len(identities) == len(set(identities))
    adapters = {}
    for study in STUDIES.values():
        for key, row in study.rows.items():
            assert adapters.setdefault(key, (row.adapter, row.changes)) == (row.adapter, row.changes)
    for key in adapters.keys() & STAGES.keys():
        assert adapters[key] == (STAGES[key].adapter, {})


def test_settings_can_be_replaced_from_the_command_line_in_budgets_too():
    """The published benchmark program's options, as settings."""
    asked = ["block_tokens=32", "num_epochs=3", "train_tokens=null", "adapter={s2_attn_enabled: true}"]
    settings = load_settings("smoke", read_changes(asked))
    assert settings.studies["methods"] == {"seeds": [0]}  # its train_tokens are gone, its seeds are not
    for planned in (plan(settings)["rslora"][0], plan_study(settings, "methods")["dora"][0]):
        asked = planned.specification
        assert (asked["block_tokens"], asked["train_tokens"], asked["training"]["num_epochs"]) == (32, None, 3)
        assert asked["adapter"]["s2_attn_enabled"] and asked["adapter"]["s2_group_size"] == 8
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
    assert list(plan_study(kept, "direct")) == ["base", "rslora", "rslora_landmarks", "rslora_r16"]
    with pytest.raises(HyLoRADAError, match=message):
        replace(SMOKE, studies={"direct": budget})


def test_an_arm_with_a_tuned_rate_trains_at_it_in_every_study_but_the_sweep():
    tuned = replace(
        SMOKE, tuned_rates={"rslora": 1e-3, "dora": 2e-4}, studies={"methods": {}, "rates": {}, "direct": {}}
    )

    def rates(row: Run) -> tuple[float, float]:
        return row.specification["training"]["learning_rate"], row.specification["training"]["landmark_lr"]

    assert rates(plan(tuned)["rslora"][0]) == (1e-3, 1e-3)
    assert rates(plan(tuned)["magnitude"][0]) == (SMOKE.learning_rate, SMOKE.landmark_lr)
    methods, sweep = plan_study(tuned, "methods"), plan_study(tuned, "rates")
    assert rates(methods["dora"][0]) == (2e-4, 2e-4) and rates(methods["rslora"][0]) == (1e-3, 1e-3)
    assert rates(sweep["rslora_lr5e-05"][0]) == (5e-5, 5e-5)
    with pytest.raises(HyLoRADAError, match="tuned_rates: 'rslore' is no stage or method; did you mean 'rslora'"):
        replace(SMOKE, tuned_rates={"rslore": 1e-3})


def test_the_study_of_bases_has_rows_for_each_base_and_tokens_of_its_own():
    settings = replace(SMOKE, bases=["tiny-gpt2", "tiny-llama"], studies={"bases": {}})
    planned = plan_study(settings, "bases")
    assert list(planned)[:3] == ["base_tiny-gpt2", "rslora_tiny-gpt2", "landmarks_tiny-gpt2"] and len(planned) == 6
    assert {run.base for runs in planned.values() for run in runs} == set(settings.bases)


def test_a_published_run_follows_its_protocol_and_is_scored_on_lines(data, tmp_path):
    """Every fact that can be read off a record: rows, steps, rates, what moved and what did not."""
    lines = {"lines": 8, "end_token": 8}
    scale = quick(tmp_path, train_lines=16, measures=lines, studies={"as_published": {}})
    settings = load_settings(scale)
    for name in ("published_magnitude", "published_position_bias", "published_learned_buckets"):
        assert run(scale, name, data, tmp_path / "r") == 0
    planned = plan_study(settings, "as_published")
    found = {
        name: read_json(runs[0].folder(tmp_path / "r") / "record.json")
        for name, runs in planned.items()
        if (runs[0].folder(tmp_path / "r") / "record.json").is_file()
    }
    assert len(found) == 3
    for record in found.values():
        history, protocol = record["training"]["history"], record["specification"]["protocol"]
        assert protocol["name"] == "as_published" and not protocol["positions_reach_bias"]
        assert len(history) == 4 and {row["learning_rate"] for row in history} == {5e-4}
        assert sum(row["targets"] for row in history) == 16 * (settings.line_tokens - 1)  # padding counts
        assert 0.2 < record["training"]["padding_share"] < 1
        assert record["measures"].keys() == {"end_token"} and 0 < record["measures"]["end_token"]["mean"] < 1
        assert record["results"]["published_perplexity"] > record["results"]["geometric_perplexity"]
        assert record["moved"]["lora"]["changed"] > 0
    bias, buckets = found["published_position_bias"], found["published_learned_buckets"]
    assert bias["moved"]["position_bias"] == {"entries": 65, "changed": 0, "largest": 0.0}
    assert buckets["moved"]["landmark"]["changed"] == 0 < buckets["moved"]["landmark"]["entries"]
    assert len(buckets["learned"]["landmark.boundaries"]) == 31  # kept, though nothing trained them
    stores = [TokenNLL.load(planned[name][0].folder(tmp_path / "r") / "nll.npz") for name in list(found)[:2]]
    assert np.array_equal(stores[0].nll, stores[1].nll), "stage 3 is stage 2, bit for bit at equal seed"
    assert stores[0].text.max() == 7 and set(stores[0].article) <= {0, 1}


def test_every_measure_of_a_scale_is_in_the_record(data, tmp_path):
    scale = quick(tmp_path, measures={"lines": 8, "end_token": 1, "shifts": 2, "retrieval": 1}, train_tokens=128)
    assert run(scale, "rslora", data, tmp_path / "r") == 0
    (planned,) = plan(load_settings(scale))["rslora"]
    record = read_json(planned.folder(tmp_path / "r") / "record.json")
    assert record["measures"].keys() == set(MEASURES)
    shifts, retrieval = record["measures"]["shifts"], record["measures"]["retrieval"]
    assert len(shifts["nll"]) == shifts["parts"] == 4 and shifts["tokens"] > 50
    for kind, chance in (("key_value", 1 / 4), ("passkey", 1 / 4)):
        places = retrieval[kind]["places"]
        assert {place["trials"] for place in places} == {1} and {place["chance"] for place in places} == {chance}
        assert all(place["low"] <= place["hits"] <= place["high"] for place in places)
        assert retrieval[kind]["verdict"] == "not measurable here"  # a random model, asked once a place
    lines = TokenNLL.load(planned.folder(tmp_path / "r") / "lines.npz")
    assert record["measures"]["lines"]["results"]["perplexity"] == pytest.approx(lines.corpus_perplexity())
    assert (
        record["views"]["kinds"]["word"]["tokens"] + record["views"]["kinds"]["layout"]["tokens"]
        == (record["results"]["scored_tokens"])
    )


def test_a_tracked_run_gives_the_same_record(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = quick(tmp_path)
    (planned,) = plan(load_settings(scale))["rslora"]
    results = []
    for folder, more in (("a", []), ("b", ["--tracker", "tensorboard"])):
        assert run(scale, "rslora", data, tmp_path / folder, *more) == 0
        results.append(json.loads((planned.folder(tmp_path / folder) / "record.json").read_text())["results"])
    assert results[0] == results[1]
    assert list((tmp_path / "results" / "tracking" / planned.name).glob("events.*"))


def test_runs_can_be_chosen_by_study_row_and_name(tmp_path, capsys):
    scale = quick(tmp_path, studies={"direct": {"train_tokens": 64}})
    assert main(["run", "--scale", scale, "--study", "direct", "--stage", "recommended", "--dry-run"]) == 0
    line, _ = capsys.readouterr().out.splitlines()
    name = line.split()[2]
    assert name.startswith("recommended-seed0-") and " 64 tokens" in line
    assert main(["run", "--scale", scale, "--runs", name, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line
    for option, given, near in (("--study", "dierct", "direct"), ("--stage", "recomended", "recommended")):
        assert main(["run", "--scale", scale, option, given, "--dry-run"]) == 2
        assert f"did you mean {near!r}" in capsys.readouterr().err
