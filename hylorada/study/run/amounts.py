"""How much a run does, counted before it is made: tokens of training, and tokens that scoring reads. Needs no torch.

    scored = sum over batches of (windows · tokens of the longest + OF_A_BATCH),   of the main text and every measure

Windows are read whole, so that where they overlap a token counts twice. OF_A_BATCH, in tokens, is what a batch costs
beside them, fitted to the kept records of micro, whose windows hold 30 to 4,096 tokens.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from hylorada.reading import read_json
from hylorada.study.checkout import project_root
from hylorada.study.plan.record import Record
from hylorada.study.plan.runs import Run
from hylorada.study.plan.specification import Articles, LinesAsked, LinesText, Specification
from hylorada.study.sources.encode import tokens_path
from hylorada.study.sources.identity import model_folder
from hylorada.study.sources.lines import select_lines
from hylorada.study.sources.splits import SPLITS
from hylorada.typed import plain

OF_A_BATCH = 80
SHIFTS = 4  # copies of an article for the measure `shifts`, each a quarter of a window shorter
PASSKEY_ROWS, PASSKEY_TOKENS = 20, 256  # of a trial of `retrieval`: five depths, four numbers
LIST_TOKENS = 680  # of its lists of keys and values
Lengths = list[int]  # tokens of each text


@dataclass(frozen=True)
class Amount:
    """trained: tokens, padding counted, of all epochs. scored: tokens, as above. None: not known before it is made."""

    trained: int | None
    scored: float | None


class Amounts:
    """Counts what runs do by the token files in `data`, else by records that scored the same text (`learn`).

    Where neither is there, the counts kept of a corpus give an article its mean length. A record gives its texts one
    length.
    """

    def __init__(self, data: Path) -> None:
        self._data = Path(data)
        self._counted: dict[str, Amount] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # texts that were scored: their number, and tokens of all

    def learn(self, records: Iterable[Record]) -> None:
        """Keep how many tokens the texts of these records have."""
        for record in records:
            asked, results = record.specification, record.results
            text = asked.evaluation
            count = text.lines.count if isinstance(text, LinesText) else results["articles"]
            self._seen[_key(asked, text)] = count, results["scored_tokens"] + count  # the first of a text is not scored
            if record.measures.lines is not None:
                lines = asked.measures["lines"]
                tokens = record.measures.lines.results["scored_tokens"]
                self._seen[_key(asked, lines)] = lines.lines.count, tokens + lines.lines.count

    def parameters(self, base: str) -> int | None:
        """Return the numbers in the weights of a base model, None before it is fetched."""
        path = model_folder(base, self._data) / "model.safetensors"
        if not path.is_file():
            return None
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")

    def knows(self, run: Run) -> bool:
        """Tell whether the texts of a run are counted, and not guessed by the means of its corpus."""
        asked = run.specification
        texts = [asked.evaluation, *(text for text in asked.measures.values() if isinstance(text, LinesAsked))]
        return tokens_path(run.base, run.corpus, self._data).is_file() or all(
            _key(asked, t) in self._seen for t in texts
        )

    def of(self, run: Run) -> Amount:
        """Return how much a run does."""
        asked = run.specification
        key = repr((asked.base, asked.corpus, asked.evaluation, asked.measures, asked.protocol, asked.block_tokens))
        key += repr((asked.train_tokens, asked.training and (asked.training.num_epochs, asked.training.batch_size)))
        if key in self._counted:
            return self._counted[key]
        path = tokens_path(run.base, run.corpus, self._data)
        trained = trained_tokens(asked, _train_lengths(path, run.corpus))
        amount = Amount(trained, self._scored(asked, path, run.corpus))
        if amount.trained is not None and amount.scored is not None:
            self._counted[key] = amount
        return amount

    def of_record(self, record: Record) -> Amount:
        """Return how much a run did whose texts were learned."""
        trained = trained_tokens(record.specification, None)
        if trained is None:
            trained = record.training.targets
        return Amount(trained, self._scored(record.specification, None, ""))

    def _scored(self, asked: Specification, path: Path | None, corpus: str) -> float | None:
        """Return the tokens that the scoring of a run reads; None where the text is not known."""
        text, measures = asked.evaluation, asked.measures
        main = self._lengths(asked, text, path, corpus)
        if main is None:
            return None
        length, size = text.max_length, text.batch_size
        step = min(text.stride, length - 1)
        read = tokens_read(main, length, step, size) * (1 + ("placebo" in measures))
        if (lines := measures.get("lines")) is not None:
            of_lines = self._lengths(asked, lines, path, corpus)
            if of_lines is None:
                return None
            read += tokens_read(of_lines, lines.max_length, lines.max_length, size)
        if "end_token" in measures:
            read += tokens_read(main[: measures["end_token"]], length, step, size)
        if "shifts" in measures:
            quarter = length // SHIFTS
            copies = [max(n - copy * quarter, 0) for n in main[: measures["shifts"]] for copy in range(SHIFTS)]
            read += tokens_read(copies, length, length, size)
        if (trials := measures.get("retrieval")) is not None:
            read += trials * (PASSKEY_ROWS * min(length, PASSKEY_TOKENS) + LIST_TOKENS)
        return read

    def _lengths(
        self, asked: Specification, text: Articles | LinesAsked, path: Path | None, corpus: str
    ) -> Lengths | None:
        """Return the lengths of the texts that are to be scored, None where nothing tells them."""
        columns = _columns(path) if path is not None and path.is_file() else None
        if columns is not None and isinstance(text, LinesAsked):
            split = columns[text.lines.split]
            taken = select_lines(text.lines, split["line_characters"], split["line_stripped"])
            return np.minimum(split["line_lengths"][taken], text.max_length).tolist()
        if columns is not None:
            whole = columns[text.split]["lengths"][: text.articles]
            return np.minimum(whole, text.tokens_per_article or whole.max()).tolist()
        if (key := _key(asked, text)) in self._seen:
            count, tokens = self._seen[key]
            return [round(tokens / count)] * (text.lines.count if isinstance(text, LinesAsked) else count)
        counts = _kept_counts(corpus)
        if counts is None or isinstance(text, LinesAsked):
            return None
        count = min(text.articles or counts[text.split]["articles"], counts[text.split]["articles"])
        mean = counts[text.split]["smollm2_tokens"] // counts[text.split]["articles"]
        return [min(mean, text.tokens_per_article or mean)] * count


def trained_tokens(asked: Specification, lengths: Lengths | None) -> int | None:
    """Return the tokens, padding counted, that a run trains on in all epochs; None where it is all of a text not known.

    lengths: of all training articles.
    """
    epochs, tokens = asked.training.num_epochs if asked.training else 1, asked.trained_tokens
    if tokens is None and lengths is not None:  # an end token after each article
        tokens = (sum(lengths) + len(lengths)) // asked.block_tokens * asked.block_tokens
    return None if tokens is None else tokens * epochs


def tokens_read(lengths: Lengths, max_length: int, step: int, batch_size: int) -> float:
    """Return what texts of these lengths cost to score in windows, in tokens (see above).

    The windows are those of `hylorada.evaluation.score_windows`, and their batches those of `token_nll`: longest first.
    """
    windows: Lengths = []
    for n in (n for n in lengths if n > 1):
        more = max(0, -(-(n - max_length) // step))  # windows after the first, up to the one that reaches the end
        windows += [max_length] * more + [n - more * step]
    windows.sort(reverse=True)
    batches = [windows[start : start + batch_size] for start in range(0, len(windows), batch_size)]
    return float(sum(len(batch) * batch[0] + OF_A_BATCH for batch in batches))


def _train_lengths(path: Path, corpus: str) -> Lengths | None:
    if path.is_file():
        return _columns(path)["train"]["lengths"].tolist()
    counts = _kept_counts(corpus)
    return None if counts is None else [counts["train"]["smollm2_tokens"]]


@cache
def _columns(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the numbers that a token file keeps of texts and lines, by split, without their ids."""
    names = ("lengths", "line_lengths", "line_characters", "line_stripped")
    with np.load(path, allow_pickle=False) as file:
        return {split: {name: file[f"{split}_{name}"] for name in names} for split in SPLITS}


@cache
def _kept_counts(corpus: str) -> dict | None:
    """Return the counts that are kept of a corpus, by split; None where there are none."""
    path = project_root() / "data" / corpus / "counts.json"
    return read_json(path) if corpus.isidentifier() and path.is_file() else None


def _key(asked: Specification, text: Articles | LinesAsked) -> str:
    """Name a text: what it is of, and what is taken of it; of lines any number, whose mean length holds for all."""
    if isinstance(text, LinesAsked):
        taken = [plain(replace(text.lines, count=1)), text.max_length]
    else:
        taken = [text.split, text.articles, text.tokens_per_article]
    return json.dumps([asked.base, asked.corpus, taken], sort_keys=True)
