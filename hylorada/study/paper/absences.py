"""What this copy of the study leaves out, in sentences read off the settings and the records."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hylorada.files import written_beside
from hylorada.study.paper.latex import set_text
from hylorada.study.paper.sentences.names import short_name
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.published import OWN_BASE, OWN_CORPUS
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import Records
from hylorada.study.results.results import Results
from hylorada.study.results.words import thousands
from hylorada.study.sources.registry import find_corpus, find_model

OTHER_FAMILY = {"modules": "modules_gpt2", "modules_gpt2": "modules"}  # the same question for other layer names


def absences(settings: Settings, studies: Mapping[str, Records]) -> Iterator[str]:
    """Yield, in sentences, what a reader may miss in this copy of the study; studies: the records of each."""
    base, corpus = find_model(settings.base), find_corpus(settings.corpus)
    if not _own(settings):
        yield (
            "The published base and text. Published numbers are of GPT-2 and WikiText-2; this copy runs on "
            f"{short_name(base)} and {short_name(corpus)}, so that of its numbers none repeats a published one, "
            "and each is judged as one on another base and text."
        )
    if all(record.machine.device == "cpu" for record in studies["ablation"].by_run.values()):
        yield (
            "A GPU. All runs of this copy ran on a processor, which is what bounds their steps, seeds and lengths; "
            "memory and time on a GPU are not measured."
        )
    absent = [
        study.title.lower()
        for name, study in STUDIES.items()
        if name not in settings.tables and OTHER_FAMILY.get(name) not in settings.tables
    ]
    if absent:
        yield f"Whole tables: {', '.join(absent)}."
    left_out = {
        STUDIES[name].title.lower(): len(STUDIES[name].rows) - len(settings.rows(name))
        for name in settings.studies
        if STUDIES[name].rows and len(STUDIES[name].rows) > len(settings.rows(name))
    }
    if left_out:
        counts = ", ".join(f"{title} ({number})" for title, number in left_out.items())
        yield f"Rows of tables, with their number: {counts}. The full scale has them all."
    single = [name for name in settings.studies if studies[name].most_seeds == 1]
    if single:
        yield (
            f"Seeds. {len(single)} of {len(settings.studies)} tables beside the ablation have one seed a row, which "
            "shows that each row runs and supports no conclusion about an effect."
        )
    published = PROTOCOLS["as_published"]
    here = studies["as_published"].asked.protocol if "as_published" in studies else published
    if here.training_text.count < published.training_text.count:
        scored, all_lines = here.evaluation_text.count, published.evaluation_text.count
        yield (
            f"The published amounts. The published procedure trains on {thousands(published.training_text.count)} "
            f"lines and scores {thousands(all_lines)}; here it trains on {thousands(here.training_text.count)} and "
            f"scores {'as many' if scored == all_lines else thousands(scored)}."
        )
    if len(settings.bases) == 1 and "bases" in settings.studies:
        yield "Other bases. There is one base here, so that their table has no second one."


def write_absences(results: Results, path: Path) -> None:
    """Write what is absent as the items of a list, or one sentence where nothing is."""
    sentences = list(absences(results.settings, results.studies))
    sentences = sentences or ["At this scale, everything that the study plans was run."]
    with written_beside(path) as beside:
        beside.write_text("".join(f"\\item {set_text(sentence)}\n" for sentence in sentences), encoding="utf-8")


def _own(settings: Settings) -> bool:
    return bool(re.fullmatch(OWN_BASE, settings.base) and re.fullmatch(OWN_CORPUS, settings.corpus))
