r"""The floats of the paper: a definition for each table and figure that a scale has, with caption and label.

`\define{tab:direct}{...}` only defines; the text places a float with `\place{tab:direct}`, which is nothing where the
scale has none.
"""

from pathlib import Path

from hylorada.files import written_beside
from hylorada.study.figures.rows import FIGURES, figures_of
from hylorada.study.paper.latex import escape, thousands
from hylorada.study.plan.budget import fitted_to, planned_steps, published_steps
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.sources.lines import Lines

ONE, TWO = "", "*"  # columns of the page, as the environments are called
PAPER_FIGURES = {  # drawn at the width that they have in print; the others are on the page
    "ablation": ONE,
    "position_nll": TWO,
    "metric_bridge": TWO,
    "bucket_map": TWO,
    "landmark_gates": TWO,
    "learning_rates": TWO,
    "rank_scaling": ONE,
    "context_scaling": ONE,
    "module_scaling": ONE,
    "module_scaling_gpt2": ONE,
    "base_scaling": ONE,
    "s2_cost": TWO,
}
NOT_SHOWN = ("as_published", "rates")  # tables whose rows stand in another, or in a figure
NARROWEST = 36  # characters of a label that a column of the page has room for beside the numbers
FURTHER = 8  # of these go to a further column
WHERE = {ONE: "!htb", TWO: "t"}
NARROW = r"\scriptsize\setlength{\tabcolsep}{2.5pt}"
WIDE = r"\scriptsize\setlength{\tabcolsep}{4pt}"
TABLE = r"""\define{{tab:{name}}}{{%
\begin{{table{width}}}[{where}]
\centering{size}
\input{{tables/{name}}}
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


def write_floats(settings: Settings, path: Path) -> None:
    """Write the definitions of the tables of all studies of a scale, and of the figures that the paper shows."""
    made = [name for name in figures_of(settings) if name != "base_scaling" or has_sizes(settings)]
    parts = [_table(settings, name) for name in settings.studies if is_shown(settings, name)]
    parts += [
        FIGURE.format(name=name, width=width, where=WHERE[width], caption=escape(FIGURES[name].caption))
        for name, width in PAPER_FIGURES.items()
        if name in made
    ]
    with written_beside(path) as beside:
        beside.write_text("".join(parts))


def is_shown(settings: Settings, study: str) -> bool:
    """Tell whether the paper shows the table of a study."""
    return study not in NOT_SHOWN and (study != "bases" or has_sizes(settings))


def has_sizes(settings: Settings) -> bool:
    """Tell whether there are bases of several sizes to compare."""
    return len(settings.bases) > 1


def _table(settings: Settings, name: str) -> str:
    study, one_seed = STUDIES[name], len(settings.for_study(name).seeds) == 1
    label = max(len(row.label) for row in settings.rows(name).values())
    width = ONE if one_seed and label + FURTHER * len(study.shows) <= NARROWEST else TWO
    size = NARROW if width == ONE or one_seed else WIDE
    said = {"title": escape(study.title), "budget": _budget(settings, name)}
    return TABLE.format(name=name, width=width, where=WHERE[width], size=size, **said)


def _budget(settings: Settings, study: str) -> str:
    """Say what a study trains on and is scored on, and which of its rows the scale leaves out."""
    own, rows = settings.for_study(study), settings.rows(study)
    changed = next(iter(rows.values())).changes  # rows differ in more only where the table shows it
    protocol = PROTOCOLS[changed.get("protocol", own.protocol)]
    seeds = len(own.seeds)
    said = "One seed; " if seeds == 1 else f"{seeds} seeds; "
    if protocol.training_text is None:
        amount = "all training text" if own.train_tokens is None else f"{thousands(own.train_tokens)} tokens"
        articles = "all" if own.test_articles is None else str(own.test_articles)
        split = changed.get("evaluation_split", own.evaluation_split)
        said += f"trained on {amount}"
        steps = planned_steps(protocol, own)
        said += "" if steps is None or "steps" in STUDIES[study].shows else f" in {steps} step{'s' * (steps != 1)}"
        said += f", scored on {articles} {split} article{'s' * (articles != '1')}"
        whole = own.test_tokens_per_article
        said += "." if whole is None else f" to {thousands(whole)} tokens."
    else:
        cut = fitted_to(protocol, own)
        rows_of = [
            _lines(cut.training_text, protocol.training_text),
            _lines(cut.evaluation_text, protocol.evaluation_text),
        ]
        said += f"trained on {rows_of[0]} lines, filled up to {cut.block_tokens} tokens"
        said += "" if cut.block_tokens == protocol.block_tokens else f" (published: {protocol.block_tokens})"
        here, published = planned_steps(protocol, own), published_steps(protocol, own)
        said += f", in {here} step{'s' * (here != 1)}" + ("" if here == published else f" (published: {published})")
        said += f", scored on {rows_of[1]} lines."
    left_out = len(STUDIES[study].rows or rows) - len(rows)
    return said + (f" Rows left out at this scale: {left_out}." if left_out else "")


def _lines(cut: Lines, published: Lines) -> str:
    return f"{cut.count}" + ("" if cut.count == published.count else f" (published: {published.count})")
