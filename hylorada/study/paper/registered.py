r"""The plan of a scale as a float of the paper: defined where the scale has one, nothing for all others."""

import pandas as pd

from hylorada.study.paper.latex import FOOT, set_line, set_text
from hylorada.study.plan.registered import Plan, plan_digest, read_plan
from hylorada.study.plan.settings import Settings
from hylorada.study.results.registered import plan_table
from hylorada.study.results.words import fixed, joined, percentage, thousands

HEAD = r"""\begin{tabular}{@{}lrrrrrrlr@{}}
\toprule
study & effects & seeds & steps & tokens & new runs & sd (\%) & & finds (\%)\\
\midrule
"""
FLOAT = r"""\define{{tab:plan}}{{%
\begin{{table*}}[t]
\centering\scriptsize\setlength{{\tabcolsep}}{{4pt}}
{tabular}\caption{{{caption}}}\label{{tab:plan}}
\end{{table*}}}}
"""
BLANK = "\N{EN DASH}"


def plan_float(settings: Settings) -> str:
    """Return the definition of the table of the plan, nothing for a scale that has no plan."""
    if plan_digest(settings.scale) is None:
        return ""
    registered = read_plan()
    caption = set_text(_caption(registered))
    return FLOAT.format(tabular=plan_tabular(plan_table(registered, settings)), caption=caption)


def plan_tabular(table: pd.DataFrame) -> str:
    """Set the planned studies, in the order of their importance; an asterisk marks a family that Holm adjusts."""
    return HEAD + "".join(_line(row) for _, row in table.iterrows()) + FOOT


def _line(row: pd.Series) -> str:
    steps, tokens = (BLANK if pd.isna(row[name]) else thousands(int(row[name])) for name in ("steps", "step_tokens"))
    sd, finds = (BLANK if pd.isna(row[name]) else fixed(row[name]) for name in ("sd", "detects"))
    counts = [str(row["effects"]), str(row["seeds"]), steps, tokens, str(row["runs"])]
    return set_line([row["title"] + "*" * bool(row["family"]), *counts, sd, row["sd_is"], finds])


def _caption(registered: Plan) -> str:
    margins = joined(percentage(margin, 1) for margin in registered.margins)
    return (
        f"The plan of {registered.written}, written before the runs: what each study trains, the spread of a paired "
        "effect between seeds that a pilot measured or that was assumed, and the smallest effect that so many seeds "
        f"find with a chance of {percentage(100 * registered.power, 0)}. Tokens are those of a step; a dash stands "
        f"where rows differ or nothing was said. Margins of what is of interest: {margins}. An asterisk: a primary "
        "family, adjusted after Holm; the rest is estimation."
    )
