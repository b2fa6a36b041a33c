"""Write docs/coverage.md: how often the intervals hold the truth at the real design. `python tools/coverage_table.py`.

From the spreads that the ablation of the largest kept scale had between seeds and articles, as
`hylorada.study.results.coverage` says; the same records give the same page.
"""

from hylorada.study.checkout import project_root
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.rows import against_of
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.kept import largest_kept
from hylorada.study.records.records import study_records
from hylorada.study.results.coverage import DRAWS, coverage_table

SEEDS, TIMES = (5, 10), 400
HEAD = """# How often the intervals hold the truth

Made by `python tools/coverage_table.py` from the kept records of the scale `{scale}`. An effect of none is drawn
{times} times from the spreads that each step of the ablation had (between seeds, between articles, and of what is left,
in percent of perplexity), for {articles} articles and so many seeds, and judged by the crossed bootstrap ({draws}
draws) and by Student's interval over seeds, each at 95 %. A step is called resolved only where both exclude zero: the
last column is how often that happens to none, and 5 % is what it may.

| step | seeds | sd seeds | sd articles | sd rest | bootstrap holds | Student holds | called resolved |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Write the page."""
    folder = largest_kept(project_root() / "data" / "reference")
    records = study_records(load_settings(folder.name), "ablation", folder)
    table = coverage_table(records, against_of(STAGES), SEEDS, TIMES)
    articles = len(records.nll("base", None).nll_by_article()[0])
    lines = [
        f"| {STAGES[row.stage].in_words} | {row.seeds} | {row.sd_seeds:.3f} | {row.sd_articles:.3f} | "
        f"{row.sd_rest:.3f} | {100 * row.bootstrap:.1f} % | {100 * row.student:.1f} % | {100 * row.resolved:.1f} % |"
        for row in table.itertuples()
    ]
    head = HEAD.format(scale=folder.name, times=TIMES, articles=articles, draws=DRAWS)
    (project_root() / "docs" / "coverage.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
