"""Fresh records against reference ones: what is the same, what may differ and by how much, and what has no other."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fake_records import fake_study
from repository import ROOT
from scipy import stats

from hylorada.cli import main
from hylorada.errors import HyLoRADAError
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.retrieved import Place, Retrieval
from hylorada.study.plan.record import EndToken, Measures, ScoredLines, Views
from hylorada.study.records.archive import read_archive
from hylorada.study.records.compare import (
    ALONE,
    DIFFERENT,
    SAME,
    TOLERATED,
    compare,
    overall,
    summary,
    write_comparison,
)
from hylorada.typed import plain
from hylorada.verbs.results import DIFFERS


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    fake_study(folder)
    return folder


@pytest.fixture
def fresh(reference, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(reference, tmp_path / "fresh"))


def path_of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"{name}-*/record.json")
    return found


def edit(folder: Path, name: str, change) -> None:
    """Let `change` alter the record of that stage and seed in place."""
    record = read_json(path_of(folder, name))
    change(record)
    write_json(path_of(folder, name), record)


def compared(fresh: Path, reference: Path) -> pd.DataFrame:
    return compare(read_archive(fresh), read_archive(reference))


def row(table: pd.DataFrame, name: str, metric: str) -> pd.Series:
    (index,) = table.index[table["run"].fillna("").str.startswith(f"{name}-") & (table["metric"] == metric)]
    return table.loc[index]


def elsewhere(record: dict) -> None:
    record["machine"]["processor"] = "Another CPU"


def everywhere(folder: Path, change) -> None:
    for path in folder.glob("*/record.json"):
        record = read_json(path)
        change(record)
        write_json(path, record)


def test_equal_records_are_the_same_in_every_number(fresh, reference):
    table = compared(fresh, reference)
    assert set(table["verdict"]) == {SAME} and overall(table) == SAME
    assert table["run"].nunique() == 16 and {"perplexity", "parameters.trainable", "data"} <= set(table["metric"])
    assert "overall: same (16 runs compared)" in summary(table)


def test_on_one_machine_the_last_bit_counts(fresh, reference):
    edit(fresh, "rslora-seed1", lambda r: r["results"].update(mean_nll=math.nextafter(r["results"]["mean_nll"], 9)))
    table = compared(fresh, reference)
    found = row(table, "rslora-seed1", "mean_nll")
    assert found["verdict"] == DIFFERENT and "same code, machine and versions" in found["allowed"]
    assert (table["verdict"] == DIFFERENT).sum() == 1 and overall(table) == DIFFERENT
    assert any(line.startswith(f"differs: {found['run']}, mean_nll:") for line in summary(table))


@pytest.mark.parametrize(
    "change",
    [
        elsewhere,
        lambda record: record["machine"]["versions"].update(torch="9.9"),
        lambda record: record["machine"].update(device="A GPU"),
        lambda record: record["specification"].update(code="f" * 64),
        lambda record: record["results"].update(base_probe_nll=record["results"]["base_probe_nll"] + 1e-6),
    ],
)
def test_the_last_bit_may_differ_where_machine_versions_code_or_arithmetic_do(fresh, reference, change):
    edit(fresh, "rslora-seed1", change)
    edit(fresh, "rslora-seed1", lambda r: r["results"].update(mean_nll=math.nextafter(r["results"]["mean_nll"], 9)))
    table = compared(fresh, reference)
    assert row(table, "rslora-seed1", "mean_nll")["verdict"] == TOLERATED
    assert overall(table) == TOLERATED


def test_the_untouched_base_may_differ_by_a_thousandth_between_machines(fresh, reference):
    everywhere(fresh, elsewhere)
    nll = read_json(path_of(fresh, "base"))["results"]["mean_nll"]
    for factor, verdict in ((1 + 9e-4, TOLERATED), (1 + 11e-4, DIFFERENT), (1 - 11e-4, DIFFERENT)):
        edit(fresh, "base", lambda r, f=factor: r["results"].update(mean_nll=nll * f, perplexity=math.exp(nll * f)))
        table = compared(fresh, reference)
        assert row(table, "base", "mean_nll")["verdict"] == verdict, factor
        assert row(table, "base", "perplexity")["verdict"] == verdict, "it is compared as its logarithm"


def test_a_trained_run_may_lie_where_one_more_seed_of_the_reference_would(fresh, reference):
    everywhere(fresh, elsewhere)
    seeds = [read_json(path_of(reference, f"landmarks-seed{k}"))["results"]["mean_nll"] for k in range(3)]
    low, high = (
        pd.Series(seeds).mean() + sign * stats.t.ppf(0.975, 2) * pd.Series(seeds).std() * math.sqrt(4 / 3)
        for sign in (-1, 1)
    )
    assert high - low > 2e-3 * seeds[0], "the tolerance between machines alone would be narrower"
    for value, verdict in ((low + 1e-6, TOLERATED), (high - 1e-6, TOLERATED), (high + 1e-6, DIFFERENT)):
        edit(fresh, "landmarks-seed0", lambda r, v=value: r["results"].update(mean_nll=v))
        found = row(compared(fresh, reference), "landmarks-seed0", "mean_nll")
        assert found["verdict"] == verdict, value
        assert (found["low"], found["high"]) == pytest.approx((low, high))
        assert found["allowed"] == "one run more beside 3 seeds"


def test_a_row_of_one_seed_takes_the_spread_of_the_rows_with_more(fresh, reference, tmp_path):
    own = Path(shutil.copytree(reference, tmp_path / "own"))
    for seed in (1, 2):
        for folder in (own, fresh):
            shutil.rmtree(path_of(folder, f"landmarks-seed{seed}").parent)
    everywhere(fresh, elsewhere)
    found = row(compared(fresh, own), "landmarks-seed0", "mean_nll")
    assert "spread of all rows" in found["allowed"]
    others = ("rslora", "magnitude", "position_bias", "learned_buckets")
    values = [[read_json(path_of(own, f"{name}-seed{k}"))["results"]["mean_nll"] for k in range(3)] for name in others]
    pooled = math.sqrt(sum(pd.Series(row).var() for row in values) / len(others))
    half = stats.t.ppf(0.975, 8) * pooled * math.sqrt(2)
    assert found["high"] - found["reference"] == pytest.approx(half)


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        ("scored_tokens", lambda record: record["results"].update(scored_tokens=1)),
        ("parameters.trainable", lambda record: record["parameters"].update(trainable=1)),
        ("data", lambda record: record["data"].update(model_sha256="0" * 64)),
        ("mean_nll", lambda record: record["results"].update(mean_nll=None)),
    ],
)
def test_counts_checksums_and_missing_numbers_may_never_differ(fresh, reference, metric, change):
    everywhere(fresh, elsewhere)
    edit(fresh, "rslora-seed0", change)
    table = compared(fresh, reference)
    assert row(table, "rslora-seed0", metric)["verdict"] == DIFFERENT and overall(table) == DIFFERENT


def test_measures_are_compared_too(fresh, reference, tmp_path):
    own = Path(shutil.copytree(reference, tmp_path / "own"))
    places = tuple(Place(4, index, 0.5, hits, 10, 0.0, 1.0, 0.25) for index, hits in enumerate((6, 4)))
    passkey = Retrieval(places=places, share=0.5, chance=0.25, verdict="measurable", tokens_read=99)
    measures = Measures(
        end_token=EndToken(mean=0.01, quantiles={}, perplexity_factor=1.01, texts=13),
        lines=ScoredLines(results={"perplexity": 30.0}, views=Views()),
        retrieval={"passkey": passkey},
    )
    for folder in (own, fresh):
        everywhere(folder, lambda record: record.update(measures=plain(measures)))
    everywhere(fresh, elsewhere)
    low, high = stats.binomtest(10, 20).proportion_ci(0.95, method="wilson")
    for share, verdict in ((low + 0.01, TOLERATED), (high + 0.01, DIFFERENT)):
        edit(fresh, "base", lambda r, s=share: r["measures"]["retrieval"]["passkey"].update(share=s))
        table = compared(fresh, own)
        assert row(table, "base", "retrieval.passkey.share")["verdict"] == verdict
    assert {"end_token.mean", "lines.perplexity", "retrieval.passkey.tokens_read"} <= set(table["metric"])
    edit(fresh, "base", lambda record: record["measures"].pop("end_token"))
    assert row(compared(fresh, own), "base", "end_token.mean")["verdict"] == ALONE


def test_what_is_only_on_one_side_is_said_and_is_no_difference(fresh, reference):
    shutil.rmtree(path_of(fresh, "rslora-seed0").parent)
    edit(fresh, "magnitude-seed0", lambda record: record["specification"].update(block_tokens=256))
    table = compared(fresh, reference)
    alone = table[table["verdict"] == ALONE]
    assert set(alone["run"].dropna().str.split("-").str[0]) == {"magnitude"}
    assert sorted(alone["reference_run"].dropna().str.split("-").str[0]) == ["magnitude", "rslora"]
    told = summary(table)
    assert overall(table) == SAME and "overall: same (14 runs compared)" in told
    assert any("only in the records: 1 runs, magnitude-seed0" in line for line in told)
    assert any("only in the reference: 2 runs" in line for line in told)


def test_nothing_to_compare_is_refused(fresh, reference):
    everywhere(fresh, lambda record: record["specification"].update(block_tokens=256))
    with pytest.raises(HyLoRADAError, match="no run of .* has a counterpart in"):
        compared(fresh, reference)


def test_the_command_says_by_its_status_whether_something_differs(fresh, reference, tmp_path, capsys):
    arguments = ["compare", "--records", str(fresh), "--reference", str(reference), "--out", str(tmp_path / "all.csv")]
    assert main(arguments) == 0
    assert "overall: same" in capsys.readouterr().out
    edit(fresh, "base", lambda record: record["results"].update(perplexity=1.0))
    assert main(arguments) == DIFFERS == 3
    assert "overall: differs" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "all.csv")
    assert (written["verdict"] == DIFFERENT).sum() == 1
    assert main([*arguments[:-4], "--reference", str(tmp_path / "nowhere")]) == 2
    assert "nowhere has no sub-folder" in capsys.readouterr().err


def test_the_reference_records_are_their_own_counterparts(tmp_path):
    archive = read_archive(ROOT / "data" / "reference" / "micro")
    table = compare(archive, archive)
    assert overall(table) == SAME and table["run"].nunique() == len(archive.records)
    write_comparison(table, tmp_path / "table.csv")
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(table)
