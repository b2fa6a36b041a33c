"""The per-token store: the NLL of every scored token, and every metric as a view on it.

A text i with T_i scored tokens of NLL l_it has the mean m_i = sum_t l_it / T_i. A token is scored when it has at least
one token before it in its window, so the first token of a text is context only (without BOS).
"""

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside

INTEGER = np.int32


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
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
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
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                columns = dict(archive)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise HyLoRADAError(f"{path} is no readable token store ({error}); evaluate the model again") from error
        if set(columns) != names:
            raise HyLoRADAError(f"{path} holds {sorted(columns)}, a token store holds {sorted(names)}")
        return cls(**columns)

    def select(self, keep: np.ndarray) -> "TokenNLL":
        """Only the tokens where `keep` (n_tokens,) holds; the sizes of the texts are unknown from there on."""
        sizes = np.zeros(self.n_texts, INTEGER)
        columns = {name: getattr(self, name)[keep] for name in COLUMNS}
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

    def worst_texts_share(self, worst: int = 5) -> float:
        """Share of sum_i exp(m_i) owed to the `worst` texts of highest perplexity, 0 to 1."""
        perplexities = np.sort(np.exp(self.text_means()[1]))
        return float(perplexities[-worst:].sum() / perplexities.sum())

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

    def nll_by_token_class(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean NLL, tokens) of each class of tokens; `classes` (vocab,) gives every token id its class 0, 1, ..."""
        classes = np.asarray(classes)
        return _mean_by(classes[self.token_id], self.nll, int(classes.max()) + 1)

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


COLUMNS = ("text", "article", "position", "context", "token_id", "nll")


def _mean_by(group: np.ndarray, values: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean, count) of the values in groups 0 .. groups-1; NaN where a group is empty."""
    counts = np.bincount(group, minlength=groups)
    sums = np.bincount(group, weights=values, minlength=groups)
    return np.divide(sums, counts, out=np.full(groups, np.nan), where=counts > 0), counts
