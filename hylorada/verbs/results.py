"""Verbs that read records: tables, figures, claims, paper, page, and questions. Imports as in `runs`."""

import argparse
import logging
import sys

from hylorada.verbs.common import settings_of

LOG = logging.getLogger(__name__)
DIFFERS = 3  # exit status of `compare`


def do_table(options: argparse.Namespace) -> None:
    """Write the generated parts of the paper."""
    from hylorada.study.paper.generated import write_generated
    from hylorada.study.plan.settings import ABLATION
    from hylorada.study.plan.studies import STUDIES
    from hylorada.study.results.levels import level_of
    from hylorada.study.results.results import read_results

    settings = settings_of(options)
    results = read_results(settings, options.records)
    write_generated(results, options.out, options.csv)
    for name in settings.tables:
        frame = results.frame(name)
        shown = ["label", "parameters", "seeds", level_of(frame), "effect", "effect_low", "effect_high"]
        title = "" if name == ABLATION else f"\n{STUDIES[name].title}\n"
        print(f"{title}{frame[shown].to_string(index=False)}")


def do_figure(options: argparse.Namespace) -> None:
    """Draw figures, those of one study from records that are read once."""
    from functools import cache

    from hylorada.study.figures.rows import BENCHMARK, figure_row, figures_of
    from hylorada.study.figures.style import save_figure
    from hylorada.study.records.records import study_records
    from hylorada.study.results.cost import read_benchmark

    settings = settings_of(options)
    rows = {name: figure_row(settings, name) for name in options.names or figures_of(settings)}
    records = cache(lambda study: study_records(settings, study, options.records))
    for name, row in rows.items():
        if row.reads == BENCHMARK:
            drawn = row.draw(read_benchmark())
        else:
            beside = {study: (records(study), settings.rows(study)) for study in row.beside if study in settings.tables}
            further = (beside,) if row.beside else ()
            drawn = row.draw(records(row.reads), settings.rows(row.reads), *further)
        save_figure(drawn, options.out / name)
        print(options.out / f"{name}.pdf", flush=True)


def do_claims(options: argparse.Namespace) -> None:
    """Judge every published statement."""
    from hylorada.study.claims.judgement import judge, write_judgement
    from hylorada.study.figures.published import published_numbers
    from hylorada.study.figures.style import save_figure
    from hylorada.study.paper.sentences.claims import write_claims_numbers
    from hylorada.study.paper.verdicts import write_tables
    from hylorada.study.plan.budget import is_cut_short

    judgement = judge(settings_of(options), options.records)
    write_judgement(judgement, options.json)
    write_claims_numbers(judgement, options.out / "tables" / "claims_numbers.tex")
    print(write_tables(judgement, options.out / "tables", options.csv).to_string(index=False))
    own = judgement.evidence.records("as_published")
    to_its_end = own is not None and not is_cut_short(own.asked)
    drawn = published_numbers(judgement.catalogue, own if to_its_end else None)
    save_figure(drawn, options.figures / "published_numbers")


def do_rates(options: argparse.Namespace) -> None:
    """Print the best rate of each arm, and of each part where the scale sweeps them, and the lines for its file."""
    import yaml

    from hylorada.study.records.records import study_records
    from hylorada.study.results.rates import best_rates, longer_runs, part_rates, tuned_rates

    settings, found = settings_of(options), {}
    for study, setting in (("rates", tuned_rates), ("part_rates", part_rates)):
        if study == "part_rates" and study not in settings.tables:
            continue
        best = best_rates(study_records(settings, study, options.records), settings.rows(study))
        print(best.to_string())
        if edges := [arm for arm, rate in best.iterrows() if rate["on_edge"]]:
            LOG.warning("at the edge of the grid, so a better rate may lie beyond: %s", ", ".join(edges))
        if longer := longer_runs(settings, study):
            steps, studies = longer
            most = max(studies, key=studies.__getitem__)
            LOG.warning(
                "chosen after %d steps, for runs of up to %d (%s%s): the best rate of few steps can be the worst of "
                "many, so give %s their train_tokens",
                *(steps, studies[most], most, f" and {len(studies) - 1} more" * (len(studies) > 1), study),
            )
        found[setting.__name__] = setting(best)
    print(yaml.safe_dump(found, sort_keys=False), end="")


def do_plan(options: argparse.Namespace) -> None:
    """Print what the plan has each study run and find, and in what the scale departs from it."""
    from hylorada.study.plan.registered import departures, read_plan, training_tokens
    from hylorada.study.results.registered import plan_table

    settings, registered = settings_of(options), read_plan()
    print(
        plan_table(registered, settings).drop(columns="title").to_string(index=False, float_format="%.2f", na_rep="-")
    )
    tokens = training_tokens(settings)
    print(f"{tokens:,} tokens of training, of {registered.most_training_tokens:,} at most")
    print("\n".join(f"departs: {line}" for line in departures(registered, settings)) or "departs in nothing")


def do_paper(options: argparse.Namespace) -> None:
    """Compile the paper."""
    from hylorada.study.checkout import project_root
    from hylorada.study.paper.compile import build_pdf, find_tex

    source = project_root() / "paper" / "main.tex"
    wide = build_pdf(source, options.out, find_tex(), generated=options.generated, figures=options.figures)
    for box in wide:
        print(f"too wide: {box}", file=sys.stderr)
    print(options.out)


def do_page(options: argparse.Namespace) -> None:
    """Write the page."""
    from hylorada.study.page.inputs import make_page

    settings = settings_of(options)
    made = (options.claims, options.tables, options.figures, options.paper)
    absent = make_page(settings, options.records, *made, options.out)
    if absent:
        LOG.warning("not drawn, so not on the page: %s", ", ".join(absent))
    print(options.out)


def do_compare(options: argparse.Namespace) -> int:
    """Hold records against others; return the exit status."""
    from hylorada.study.records import compare
    from hylorada.study.records.archive import read_archive

    compared = compare.compare(read_archive(options.records), read_archive(options.reference))
    print("\n".join(compare.summary(compared)))
    if options.out is not None:
        compare.write_comparison(compared, options.out)
    return DIFFERS if compare.overall(compared) == compare.DIFFERENT else 0


def do_why(options: argparse.Namespace) -> None:
    """Print where something comes from."""
    from hylorada.study.trace.why import why

    settings = settings_of(options)
    print("\n".join(why(options.what, settings, options.records, options.claims, options.row, options.ids)))
