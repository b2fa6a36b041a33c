r"""The floats of the paper: a definition for each table and figure that a scale has, with caption and label.

`\define{tab:direct}{...}` only defines; the text places a float with `\place{tab:direct}`, which is nothing where the
scale has none.
"""

from collections.abc import Mapping
from pathlib import Path

from hylorada.files import written_beside
from hylorada.study.figures.rows import FIGURES, figures_of
from hylorada.study.paper.latex import set_text
from hylorada.study.paper.registered import plan_float
from hylorada.study.plan.budget import planned_steps, published_steps
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.rows import BITS_PER_BYTE, against_of, references
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.specification import Specification
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import Records
from hylorada.study.results.effects import is_adjusted
from hylorada.study.results.power import FINDS
from hylorada.study.results.rows import BENCHMARK
from hylorada.study.results.words import plural, thousands

ONE, TWO = "", "*"  # columns of the page, as the environments are called
PAPER_FIGURES = {  # drawn at the width that they have in print; the others are on the page
    "effects": TWO,
    "ablation": ONE,
    "learning_curves": ONE,
    "position_nll": TWO,
    "metric_bridge": TWO,
    "bucket_map": TWO,
    "landmark_gates": TWO,
    "learning_rates": TWO,
    "part_rates": TWO,
    "rank_scaling": ONE,
    "context_scaling": ONE,
    "module_scaling": ONE,
    "module_scaling_gpt2": ONE,
    "base_scaling": ONE,
    "s2_cost": TWO,
}
ALWAYS = ("effects", "ablation", "metric_bridge", "bucket_map")  # say something also of a short training
FEWEST_TOKENS = 32_768  # of a training below which nothing that a figure could show has come about
NOT_SHOWN = ("as_published", "rates", "part_rates")  # tables whose rows stand in another, or in a figure
NARROWEST = 36  # characters of a label that a column of the page has room for beside the numbers
FURTHER = 8  # of these go to a further column
WHERE = {ONE: "!htb", TWO: "t"}
NARROW = r"\scriptsize\setlength{\tabcolsep}{2.5pt}"
WIDE = r"\scriptsize\setlength{\tabcolsep}{4pt}"
TABLE = r"""\define{{tab:{name}}}{{%
\begin{{table{width}}}[{where}]
\centering{size}
\fit{{\input{{tables/{name}}}}}
\caption{{{title}. {budget}}}\label{{tab:{name}}}
\end{{table{width}}}}}
"""
FIGURE = r"""\define{{fig:{name}}}{{%
\begin{{figure{width}}}[{where}]
\centering
\includegraphics{{figures/{name}.pdf}}
\caption{{{caption}}}\label{{fig:{name}}}
\end{{figure{width}}}}}
"""


def write_floats(settings: Settings, studies: Mapping[str, Records], path: Path) -> None:
    """Write the definitions of the tables of all studies of a scale, and of the figures that the paper shows."""
    made = [name for name in figures_of(settings) if name != "base_scaling" or has_sizes(settings)]
    made = [name for name in made if name in ALWAYS or _says_something(FIGURES[name].reads, studies)]
    parts = [_table(settings, name, studies[name]) for name in settings.studies if is_shown(settings, name)]
    parts += [
        FIGURE.format(name=name, width=width, where=WHERE[width], caption=set_text(FIGURES[name].caption))
        for name, width in PAPER_FIGURES.items()
        if name in made
    ]
    parts.append(plan_float(settings))
    with written_beside(path) as beside:
        beside.write_text("".join(parts), encoding="utf-8")


def _says_something(study: str, studies: Mapping[str, Records]) -> bool:
    """Tell whether a figure of a study shows more than chance: of single runs, or hardly trained ones, none does."""
    if study == BENCHMARK:
        return True
    tokens = studies[study].asked.trained_tokens
    return studies[study].most_seeds > 1 and (tokens is None or tokens >= FEWEST_TOKENS)


def is_shown(settings: Settings, study: str) -> bool:
    """Tell whether the paper shows the table of a study."""
    return study not in NOT_SHOWN and (study != "bases" or has_sizes(settings))


def has_sizes(settings: Settings) -> bool:
    """Tell whether there are bases of several sizes to compare."""
    return len(settings.bases) > 1


def _table(settings: Settings, name: str, records: Records) -> str:
    study, one_seed = STUDIES[name], records.most_seeds == 1
    label = max(len(row.label) for row in settings.rows(name).values())
    against = [settings.rows(name)[row].label for row in references(against_of(settings.rows(name)).values())]
    label += max(map(len, against)) if len(against) > 1 else 0
    width = ONE if one_seed and label + FURTHER * len(study.shows) <= NARROWEST else TWO
    size = NARROW if width == ONE or one_seed else WIDE
    words = {"title": set_text(study.title), "budget": set_text(_budget(settings, name, records))}
    return TABLE.format(name=name, width=width, where=WHERE[width], size=size, **words)


def _budget(settings: Settings, study: str, records: Records) -> str:
    """Say what a study trains on and is scored on, and which of its rows the scale leaves out."""
    rows, asked = settings.rows(study), records.asked  # rows differ in more only where the table shows it
    single = "One seed a row, so that no effect can be told from chance"
    seeds = single if records.most_seeds == 1 else f"{records.most_seeds} seeds"
    left_out = len(STUDIES[study].rows or rows) - len(rows)
    ending = f" Rows left out at this scale: {left_out}." if left_out else ""
    of = _of_articles(asked, "steps" not in STUDIES[study].shows) if _is_packed(asked) else _of_lines(asked)
    if len(held := references(against_of(rows).values())) == 1:
        of += f" Effects are against “{rows[held[0]].label}”."
    if records.most_seeds > 1:
        of += f" {FINDS}"
    own = " Each base counts in tokens of its own." if STUDIES[study].level == BITS_PER_BYTE else ""
    return f"{seeds}; {of}{own}{ending}{'' if records.most_seeds == 1 else _how_told(records, study)}"


def _how_told(records: Records, study: str) -> str:
    """Say whether the effects of a study are tested or estimated."""
    if is_adjusted(records, study):
        return " Effects are one family, adjusted after Holm; an asterisk marks what is resolved."
    return " Estimates: each effect has a 95 % interval of its own, not adjusted, and no verdict."


def _is_packed(asked: Specification) -> bool:
    return asked.protocol.training_text is None


def _of_articles(asked: Specification, with_steps: bool) -> str:
    steps, scored = planned_steps(asked), asked.evaluation
    amount = "all training text" if asked.train_tokens is None else f"{thousands(asked.train_tokens)} tokens"
    in_steps = f" in {steps} {plural('step', steps)}" if steps is not None and with_steps else ""
    number, split, whole = scored.articles, scored.split, scored.tokens_per_article
    articles = f"all {split} articles" if number is None else f"{number} {split} {plural('article', number)}"
    return f"trained on {amount}{in_steps}, scored on {articles}" + (
        "." if whole is None else f" to {thousands(whole)} tokens."
    )


def _of_lines(asked: Specification) -> str:
    cut, published = asked.protocol, PROTOCOLS[asked.protocol.name]
    trained, scored = (
        _beside(getattr(cut, text).count, getattr(published, text).count)
        for text in ("training_text", "evaluation_text")
    )
    length = _beside(cut.block_tokens, published.block_tokens, "tokens")
    here = planned_steps(asked)
    steps = _beside(here, published_steps(published), plural("step", here))
    return f"trained on {trained} lines, filled up to {length}, in {steps}, scored on {scored} lines."


def _beside(here: int, published: int, things: str = "") -> str:
    """Say a number, and the published one where that is another."""
    words = f"{here} {things}".strip()
    return words if here == published else f"{words} (published: {published})"
