"""Every figure as a row of data: what it shows, what it reads, and where its function is. Needs no matplotlib.

A figure beside these is the rows of one study as dots, under the study's own name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from hylorada.errors import HyLoRADAError, near
from hylorada.study.plan.rows import BITS_PER_BYTE
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.results.rows import BENCHMARK


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """One figure. reads: a study, or BENCHMARK. measure: what its records must have measured, if anything.

    drawn_by: module and function, which takes the records of the study and its rows, or the benchmark's record.
    beside: further studies that it shows where a scale has them; with any, the function takes a third argument, their
    records and rows by study. caption: question and key, for the report and the paper.
    """

    drawn_by: str
    reads: str
    caption: str
    measure: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The full name of the module that draws it."""
        return f"hylorada.study.figures.{self.drawn_by.split('.')[0]}"

    @property
    def draw(self) -> Callable:
        """The function; what it needs is imported here, when there is something to draw."""
        return getattr(import_module(self.module), self.drawn_by.split(".")[1])


END_KEY = (
    "Probability of the end token in the place of the text's own tokens, its mean and quantiles over places, a row of "
    "marks a seed; at the right, by how much that raises perplexity, the mean over seeds."
)
RATES_KEY = (
    "Validation perplexity over one grid; dots are seeds, the line their mean, pale lines the others. The ring is the "
    "best rate, open where it is an edge of the grid and a better one may lie beyond; triangles stand for runs above "
    "the frame, or diverged."
)
OWN: dict[str, FigureRow] = {
    "effects": FigureRow(
        drawn_by="effects.effects",
        reads="ablation",
        beside=("as_published", "ablation_tuned", "controls"),
        caption="What was claimed, and what was measured? Changes of perplexity against the stage that is named last, "
        "of controls against rsLoRA, with intervals adjusted after Holm where a family is tested, and of each "
        "effect alone where it is estimated; a measured mark is filled where its effect is tested and resolved. "
        "Shaded are the margins within which a change is not of interest; a pale bar reaches as far as training "
        "could have taken a part, to first order, where that was measured. The axis is linear within one percent "
        "and logarithmic beyond; the published magnitude is plain.",
    ),
    "learning_curves": FigureRow(
        drawn_by="curves.learning_curves",
        reads="ablation",
        caption="When in training does a part begin to help? Loss of the training blocks less that of rsLoRA at the "
        "same seed, which has the same blocks in the same order, as a mean over the steps that the axis names. Thin "
        "lines are seeds, thick ones their mean.",
    ),
    "ablation": FigureRow(
        drawn_by="ablation.ablation",
        reads="ablation",
        caption="What does each stage reach? Test perplexity of every seed (dots), their mean (tick) and the interval "
        "of the difference from the base (bar; a bootstrap over seeds and articles, not adjusted). The dashed line is "
        "the untouched base.",
    ),
    "position_nll": FigureRow(
        drawn_by="ablation.position_nll",
        reads="ablation",
        caption="Where in the window does a stage gain? Mean loss by the number of tokens before a token (left), and "
        "its difference from the untouched base (right). Thin lines are seeds, thick ones their mean.",
    ),
    "bucket_map": FigureRow(
        drawn_by="landmarks.bucket_map",
        reads="ablation",
        caption="Which buckets does a text of one window reach? Each column is a token, shaded by its weight in each "
        "bucket: fixed buckets over the length in use, logarithmic and linear; linear over the positions of the "
        "published code; and learnable ones, before and after training (mean over seeds). Below, how far training "
        "moved each boundary: thin lines are seeds, the thick one their mean.",
    ),
    "landmark_gates": FigureRow(
        drawn_by="landmarks.landmark_gates",
        reads="ablation",
        caption="Do landmarks part by position? The share of a token's mix that its place alone gives to each landmark "
        "of every seed; what the content adds is left out. The dark line is the landmark whose share varies most, "
        "dashed an even share, grey the middle 95 % of shares at random starts, before any training.",
    ),
    "metric_bridge": FigureRow(
        drawn_by="metrics.metric_bridge",
        reads="ablation",
        caption="How far apart are the perplexities of one model on the text of a panel? Six of them, for the base and "
        "for rsLoRA, on whole articles and, where they were scored, on the lines of the published evaluation; numbers "
        "go from the one model to the other, none where no text is long enough for deciles. The last panel stacks the "
        "five worst texts' shares of the sum behind the arithmetic mean; the tick is what five texts have when all are "
        "alike.",
    ),
    "gain_by_kind": FigureRow(
        drawn_by="metrics.gain_by_kind",
        reads="ablation",
        caption="On which tokens does a stage gain over the base? Change of mean loss on layout (white space, "
        "punctuation, mark-up), words, and pieces of characters (left), and what each makes of the change over all "
        "tokens (right). Small marks are seeds, large ones their mean.",
    ),
    "end_token": FigureRow(
        drawn_by="places.end_token",
        reads="places",
        measure="end_token",
        caption=f"Does a model expect the end where the text goes on? {END_KEY}",
    ),
    "end_token_published": FigureRow(
        drawn_by="places.end_token",
        reads="single_fixes",
        measure="end_token",
        caption="Does counting the padding in the loss, as published, teach a model to expect the end where the text "
        f"goes on? Rows that name no fix are as published. {END_KEY}",
    ),
    "shifted_windows": FigureRow(
        drawn_by="places.shifted_windows",
        reads="places",
        measure="shifts",
        caption="Does a token's place in the window change its loss? The same tokens, scored in each part of the "
        "window (left), and their difference from the base (right). Thin lines are seeds, thick ones their mean.",
    ),
    "retrieval": FigureRow(
        drawn_by="places.retrieval",
        reads="places",
        measure="retrieval",
        caption="Does a model find a fact wherever it stands? Share of facts retrieved by depth, with Wilson's 95 % "
        "interval over all seeds' questions, as if independent; small marks are seeds, dashed is chance.",
    ),
    "learning_rates": FigureRow(
        drawn_by="rates.learning_rates",
        reads="rates",
        caption=f"At which rate is each method at its best? {RATES_KEY}",
    ),
    "part_rates": FigureRow(
        drawn_by="rates.learning_rates",
        reads="part_rates",
        caption=f"At which rate of its own is each part at its best, beside A and B at theirs? {RATES_KEY}",
    ),
    "rank_scaling": FigureRow(
        drawn_by="scaling.rank_scaling",
        reads="ranks",
        caption="How does perplexity go with rank, under alpha over its square root (rsLoRA) and under alpha over it "
        "(LoRA, whose start is random too)? Dots are seeds, lines go through their means.",
    ),
    "context_scaling": FigureRow(
        drawn_by="scaling.context_scaling",
        reads="context",
        caption="How does perplexity go with the length of blocks and windows? All lengths train on as many tokens, in "
        "fewer steps where blocks are longer, and score the same tokens. Dots are seeds, lines go through their means.",
    ),
    "long_context_scaling": FigureRow(
        drawn_by="scaling.context_scaling",
        reads="long_context",
        caption="How does perplexity go with length on whole articles, with S²-Attn in training and with scaled rotary "
        "positions? Longer blocks train in fewer steps. Dots are seeds, lines go through their means.",
    ),
    "module_scaling": FigureRow(
        drawn_by="scaling.module_scaling",
        reads="modules",
        caption="What do more adapted layers give for the parameters that they train? Small marks are seeds, large "
        "ones their mean.",
    ),
    "module_scaling_gpt2": FigureRow(
        drawn_by="scaling.module_scaling",
        reads="modules_gpt2",
        caption="What do more adapted layers give for the parameters that they train? Small marks are seeds, large "
        "ones their mean.",
    ),
    "base_scaling": FigureRow(
        drawn_by="scaling.base_scaling",
        reads="bases",
        caption="Does the gain hold as the base model grows? Bits per byte, which other tokenizers leave comparable, "
        "by the size of the base. Dots are seeds, lines go through their means.",
    ),
    "s2_cost": FigureRow(
        drawn_by="cost.s2_cost",
        reads=BENCHMARK,
        caption="What does attention cost by length? Time and peak memory of one layer, forward and backward, whole "
        "and in the groups of S²-Attn; grey lines grow in proportion to length and to its square.",
    ),
}
FIGURES = OWN | {
    name: FigureRow(
        drawn_by="ablation.study_rows" + "_in_bits" * (study.level == BITS_PER_BYTE),
        reads=name,
        caption=f"{study.question} Dots are seeds, the dark tick their mean, a dotted line leads from the row that a "
        "row is held against (pale tick); with two seeds or more, the bar is the interval of that difference.",
    )
    for name, study in STUDIES.items()
    if name not in OWN
}


def figures_of(settings: Settings) -> list[str]:
    """Return the names of the figures that a scale has: those whose study it has, with what they need measured."""
    measured = {study: settings.for_study(study).measures for study in settings.tables} | {BENCHMARK: {}}
    return [
        name
        for name, row in FIGURES.items()
        if row.reads in measured and (row.measure is None or row.measure in measured[row.reads])
    ]


def figure_row(settings: Settings, name: str) -> FigureRow:
    """Return one figure of a scale.

    Raises:
        HyLoRADAError: there is no such figure, or the scale does not have the study it reads.
    """
    offered = figures_of(settings)
    if name not in FIGURES:
        raise HyLoRADAError(f"figure {name!r} is not known; {near(name, offered)}")
    if name not in offered:
        raise HyLoRADAError(
            f"figure {name!r} reads {_needs(FIGURES[name])}, which scale {settings.scale!r} does not have; add it, "
            f"or draw one of: {', '.join(offered)}."
        )
    return FIGURES[name]


def _needs(row: FigureRow) -> str:
    return f"the study {row.reads!r}" + ("" if row.measure is None else f" with the measure {row.measure!r}")
