"""The per-token store: the NLL of every scored token, and every metric as a view on it.

A text i with T_i scored tokens of NLL l_it has the mean m_i = sum_t l_it / T_i. A token is scored when it has at least
one token before it in its window, so the first token of a text is context only (without BOS).
"""

import dataclasses
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside
from hylorada.reading import read_arrays, reading

INTEGER = np.int32
KINDS = ("layout", "word", "piece")  # of tokens; see `token_kinds`


@dataclass(frozen=True, eq=False)
class TokenNLL:
    """Scored tokens as columns of equal length, and the size of each text they come from.

    text: index of the text in the data set, skipped ones counted. article: what the text is part of. position: index of
    the token in its text (a BOS put in front is index 0). context: tokens before it in its window. token_id. nll: nats.
    text_bytes, text_words: (n_texts,) UTF-8 bytes and whitespace-separated words of the text's scored tokens; all zero
    where no tokenizer was at hand to decode them.

    Raises HyLoRADAError if no token is scored or the columns differ in length.
    """

    text: np.ndarray
    article: np.ndarray
    position: np.ndarray
    context: np.ndarray
    token_id: np.ndarray
    nll: np.ndarray
    text_bytes: np.ndarray
    text_words: np.ndarray

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            dtype = np.float32 if field.name == "nll" else INTEGER
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name), dtype))
        lengths = {name: len(getattr(self, name)) for name in STORED}
        if len(set(lengths.values())) > 1 or len(self.text_bytes) != len(self.text_words):
            raise HyLoRADAError(f"the columns of a token store must be equally long, these are: {lengths}")
        if not len(self.nll):
            raise HyLoRADAError(
                f"none of {self.n_texts} texts has a token to score: a text needs two tokens (or one after a BOS)"
            )

    @property
    def n_texts(self) -> int:
        """Texts in the data set, with or without a scored token."""
        return len(self.text_bytes)

    @property
    def n_skipped(self) -> int:
        """Texts without any scored token."""
        return self.n_texts - len(np.unique(self.text))

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz without pickle, beside `path` and then renamed: it is whole or it is not there."""
        with written_beside(Path(path)) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> "TokenNLL":
        """Read what `save` wrote.

        Raises HyLoRADAError if the file is missing, damaged, or holds other columns.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        advice = "evaluate the model again"
        columns = read_arrays(path, names, "token store", advice)
        with reading(path, "token store", advice):
            if any(column.ndim != 1 or column.dtype.kind not in "iuf" for column in columns.values()):
                raise ValueError("its columns are no rows of numbers")
            return cls(**columns)

    @property
    def digest(self) -> str:
        """SHA-256 of all columns, in hexadecimal; the same however the file that holds them is compressed."""
        digest = sha256()
        for field in dataclasses.fields(self):
            column = getattr(self, field.name)
            digest.update(f"{field.name} {len(column)}\n".encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def select(self, keep: np.ndarray) -> "TokenNLL":
        """Only the tokens where `keep` (n_tokens,) holds; the sizes of the texts are unknown from there on."""
        sizes = np.zeros(self.n_texts, INTEGER)
        columns = {name: getattr(self, name)[keep] for name in STORED}
        return TokenNLL(**columns, text_bytes=sizes, text_words=sizes)

    def first_windows(self) -> "TokenNLL":
        """Each text cut at the window length: exactly the tokens whose window begins at the start of the text."""
        return self.select(self.context == self.position)

    def mean_nll(self) -> float:
        """Mean over all scored tokens, nats a token."""
        return float(self.nll.mean(dtype=np.float64))

    def corpus_perplexity(self) -> float:
        """exp(sum l / sum T): every token counts the same. The perplexity to report, with window and stride."""
        return float(np.exp(self.mean_nll()))

    def text_means(self, min_tokens: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(text, m_i, T_i) of every scored text of T_i + 1 >= min_tokens tokens (its first token is unscored)."""
        text, index, counts = np.unique(self.text, return_inverse=True, return_counts=True)
        means = np.bincount(index, weights=self.nll) / counts
        long_enough = counts + 1 >= min_tokens
        if not long_enough.any():
            raise HyLoRADAError(f"no text has {min_tokens} tokens; the longest has {counts.max() + 1}")
        return text[long_enough], means[long_enough], counts[long_enough]

    def geometric_perplexity(self) -> float:
        """exp(mean_i m_i): every text counts the same, long or short."""
        return float(np.exp(self.text_means()[1].mean()))

    def arithmetic_perplexity(self, min_tokens: int = 2) -> float:
        """mean_i exp(m_i), the published metric (there min_tokens=10 and each text cut at the window: `first_windows`).

        Never below the geometric one (Jensen); a few hard texts can make most of it, see `worst_texts_share`.
        """
        return float(np.exp(self.text_means(min_tokens)[1]).mean())

    def worst_texts(self, worst: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """(text, share of sum_i exp(m_i)) of the `worst` texts of highest perplexity, worst first; shares 0 to 1."""
        texts, means, _ = self.text_means()
        perplexities = np.exp(means)
        order = np.argsort(-perplexities, kind="stable")[:worst]
        return texts[order], perplexities[order] / perplexities.sum()

    def worst_texts_share(self, worst: int = 5) -> float:
        """Share of sum_i exp(m_i) owed to the `worst` texts of highest perplexity, 0 to 1."""
        return float(self.worst_texts(worst)[1].sum())

    def bits_per_byte(self) -> float:
        """sum l / (bytes ln 2), comparable across tokenizers (The Pile, arXiv:2101.00027, section 3.1)."""
        return self._per(self.text_bytes, "bytes") / np.log(2).item()

    def byte_perplexity(self) -> float:
        """exp(sum l / bytes), as lm-evaluation-harness names it; the bytes are those of the decoded scored tokens."""
        return float(np.exp(self._per(self.text_bytes, "bytes")))

    def word_perplexity(self) -> float:
        """exp(sum l / words), as lm-evaluation-harness names it; the words are those of the decoded scored tokens."""
        return float(np.exp(self._per(self.text_words, "words")))

    def nll_by_position(self, edges: np.ndarray, by: str = "position") -> tuple[np.ndarray, np.ndarray]:
        """(mean NLL, tokens) in the bins edges[k] <= position < edges[k+1]; an empty bin is NaN with 0 tokens.

        by: "position" in the text or "context" in the window.
        """
        if by not in ("position", "context"):
            raise HyLoRADAError(f"by={by!r} is not known; allowed: 'position', 'context'")
        edges = np.asarray(edges)
        if len(edges) < 2 or (np.diff(edges) <= 0).any():
            raise HyLoRADAError(f"edges={edges.tolist()} must be at least two numbers that rise")
        bins = np.searchsorted(edges, getattr(self, by), side="right") - 1
        inside = (bins >= 0) & (bins < len(edges) - 1)
        return _mean_by(bins[inside], self.nll[inside], len(edges) - 1)

    def nll_by_kind(self, kinds: np.ndarray) -> dict[str, dict[str, float]]:
        """Mean NLL and tokens of each of KINDS, and its share of all NLL and of all tokens, 0 to 1.

        kinds: (vocab,) index into KINDS of every token id, as from `token_kinds`; a mask that is True for words will
        do. A kind without tokens has a mean of NaN.

        Raises HyLoRADAError if a token id has no kind, or a kind is not in KINDS.
        """
        kinds = np.asarray(kinds, INTEGER)
        if self.token_id.max() >= len(kinds) or not 0 <= kinds.min() <= kinds.max() < len(KINDS):
            raise HyLoRADAError(
                f"{len(kinds)} kinds from {kinds.min(initial=0)} to {kinds.max(initial=0)} do not fit token ids up to "
                f"{self.token_id.max()}: give one of 0 to {len(KINDS) - 1} for each id, from the tokenizer of the texts"
            )
        means, counts = _mean_by(kinds[self.token_id], self.nll, len(KINDS))
        nll_shares = np.nan_to_num(means) * counts / self.nll.sum(dtype=np.float64)
        return {
            kind: {
                "mean_nll": float(means[k]),
                "tokens": int(counts[k]),
                "nll_share": float(nll_shares[k]),
                "token_share": float(counts[k] / len(self.nll)),
            }
            for k, kind in enumerate(KINDS)
        }

    def matched_over_shifts(self, max_length: int, shifts: int) -> "TokenNLL":
        """Of scored `shifted_copies`, the tokens that stand once in each of the `shifts` equal parts of the window.

        Text, article and position become those of the uncut texts. What `nll_by_position` then gives with by="context"
        and edges at multiples of max_length / shifts is taken over the same tokens in every part: place alone differs.

        Raises HyLoRADAError if the copies were scored in other windows, or are too short to have such tokens.
        """
        part = _part_of_window(max_length, shifts)
        if self.n_texts % shifts or (self.context != self.position % max_length).any():
            raise HyLoRADAError(
                f"these are not shifted_copies at {shifts} shifts scored with max_length={max_length}, "
                f"stride={max_length}, score_all=False: score them so"
            )
        text, shift = np.divmod(self.text.astype(np.int64), shifts)
        position = self.position + shift * part
        _, token, times = np.unique(text * (position.max() + 1) + position, return_inverse=True, return_counts=True)
        keep = times[token] == shifts
        if not keep.any():
            raise HyLoRADAError(
                f"no token stands in all {shifts} parts of a window of {max_length}: that takes a text of "
                f"{max_length - part + 2} tokens or more"
            )
        of_copies = np.array_equal(self.article, self.text)  # as scored without article_ids: each copy its own
        sizes = np.zeros(self.n_texts // shifts, INTEGER)
        return dataclasses.replace(
            self.select(keep),
            text=text[keep],
            article=(text if of_copies else self.article)[keep],
            position=position[keep],
            text_bytes=sizes,
            text_words=sizes,
        )

    def nll_by_article(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(article, mean NLL, tokens): the unit of evaluation in every paired comparison."""
        articles, index = np.unique(self.article, return_inverse=True)
        return articles, *_mean_by(index, self.nll, len(articles))

    def decile_perplexities(self, min_tokens: int = 100) -> np.ndarray:
        """(10,) exp of the mean over texts of their mean NLL in each relative decile, as the published code cuts them.

        A decile is floor(T/10) scored tokens, the last one takes the rest; texts under `min_tokens` tokens are skipped.
        """
        deciles = []
        for _, nll in self._long_texts(max(min_tokens, 11)):
            size = len(nll) // 10
            deciles.append([part.mean() for part in np.split(nll, size * np.arange(1, 10))])
        return np.exp(np.mean(deciles, axis=0))

    def lost_in_the_middle_published(self, min_tokens: int = 100) -> float:
        """LIM-PPL: the mean of the ten `decile_perplexities`. One more average: it cannot show a loss in the middle."""
        return float(self.decile_perplexities(min_tokens).mean())

    def middle_contrasts(self, min_tokens: int = 100) -> tuple[np.ndarray, np.ndarray]:
        """(text, c_i) in nats, c = mean NLL(middle third) - (mean NLL(first third) + mean NLL(last third)) / 2.

        Token k of T scored ones is in third floor(3k/T); texts under `min_tokens` tokens are skipped.
        """
        texts, contrasts = [], []
        for text, nll in self._long_texts(max(min_tokens, 4)):
            (first, middle, last), _ = _mean_by(np.arange(len(nll)) * 3 // len(nll), nll, 3)
            texts.append(text)
            contrasts.append(middle - (first + last) / 2)
        return np.array(texts), np.array(contrasts)

    def middle_contrast(self, min_tokens: int = 100) -> float:
        """C: the mean over texts of `middle_contrasts`, nats; above zero, the middle is harder than the ends."""
        return float(self.middle_contrasts(min_tokens)[1].mean())

    def _per(self, sizes: np.ndarray, unit: str) -> float:
        if not sizes.any():
            raise HyLoRADAError(f"the {unit} of these texts are not known: score them with a tokenizer given")
        return float(self.nll.sum(dtype=np.float64) / sizes.sum(dtype=np.int64))

    def _long_texts(self, min_tokens: int) -> list[tuple[int, np.ndarray]]:
        """(text, its NLL by position, float64) of every text with T_i + 1 >= min_tokens tokens."""
        wanted, _, counts = self.text_means(min_tokens)
        order = np.lexsort((self.position, self.text))
        order = order[np.isin(self.text[order], wanted)]
        return list(
            zip(wanted.tolist(), np.split(self.nll[order].astype(np.float64), counts.cumsum()[:-1]), strict=True)
        )


def shifted_copies(token_lists: Sequence[Sequence[int]], max_length: int, shifts: int) -> list[Sequence[int]]:
    """Each text `shifts` times in a row, without its first 0, 1, 2, ... parts of max_length / shifts tokens.

    Scored in whole windows (`token_nll` with this max_length, the same stride and score_all=False), they show each
    token at `shifts` places of the window, one in each part: `TokenNLL.matched_over_shifts` puts them side by side.

    Raises HyLoRADAError if the window cannot be cut into so many equal parts of two tokens or more.
    """
    part = _part_of_window(max_length, shifts)
    return [ids[shift * part :] for ids in token_lists for shift in range(shifts)]


def token_kinds(tokenizer: Any) -> np.ndarray:
    """(vocab,) the kind of every token id, an index into KINDS, from the text that it decodes to alone.

    A word token holds a letter or a digit; layout is all else: white space, punctuation, mark-up, special tokens. A
    piece is part of a character's bytes, of which it cannot be told.
    """
    ids = range(max(tokenizer.get_vocab().values()) + 1)
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return np.array([_kind(text) for text in tokenizer.batch_decode([[i] for i in ids], **options)])


STORED = ("text", "article", "position", "context", "token_id", "nll")


def _mean_by(group: np.ndarray, values: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean, count) of the values in groups 0 .. groups-1; NaN where a group is empty."""
    counts = np.bincount(group, minlength=groups)
    sums = np.bincount(group, weights=values, minlength=groups)
    return np.divide(sums, counts, out=np.full(groups, np.nan), where=counts > 0), counts


def _kind(text: str) -> int:
    if any(unicodedata.category(sign)[0] in "LMN" for sign in text):  # letters, their marks, numbers
        return KINDS.index("word")
    return KINDS.index("piece" if "\ufffd" in text else "layout")


def _part_of_window(max_length: int, shifts: int) -> int:
    if shifts < 2 or max_length % shifts or max_length == shifts:
        raise HyLoRADAError(
            f"shifts={shifts} does not cut a window of max_length={max_length} into equal parts of 2 tokens or more: "
            "use a divisor of the window, from 2 to its half"
        )
    return max_length // shifts
