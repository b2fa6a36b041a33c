"""The wiki corpus: a shortened Wikipedia dump becomes clean articles, split by a pinned list of titles.

The dump holds wiki mark-up in XML. Articles are the pages of namespace 0 that redirect nowhere. Of the mark-up
only running text stays: paragraphs, list items and headings; what a reader sees beside the text (pictures, tables,
formulas, references, boxes, navigation) goes. `data/wiki/split.yaml` says which article is in which split and how
that was chosen; `data/wiki/counts.json` says what came out, and every fetch is held against it.
"""

import bz2
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.reading import read_yaml
from hylorada.study.sources.splits import SPLITS

# Sections that list sources and neighbours instead of telling something.
LEFT_OUT_SECTIONS = frozenset(
    "references|external links|see also|further reading|notes|footnotes|notes and references|bibliography|sources|"
    "citations|works cited|gallery|references and notes|notes and citations|references and further reading".split("|")
)
LEFT_OUT_TAGS = frozenset(
    "ref references gallery table math chem imagemap timeline score source syntaxhighlight pre graph hiero "
    "noinclude includeonly templatedata hr".split()
)
# Templates that hold words of a sentence: which positional argument is shown (-1: the last). All others go.
SHOWN_ARGUMENT = {"lang": 1, "transl": -1, "nowrap": 0, "quote": 0, "cquote": 0, "nihongo": 0, "ipa": 0, "val": 0}
CONVERT_CONNECTORS = frozenset({"-", "–", "to", "and", "by", "x", "×", "or"})

PICTURE_OR_CATEGORY = re.compile(r"\s*(file|image|media|category)\s*:", re.IGNORECASE)
OTHER_PLACE = re.compile(  # other languages, sister projects, and pages that are no articles
    r"\s*:?([a-z]{2,3}|[a-z]{2,3}-[a-z-]+|simple|wikt|wiktionary|commons|special|portal|category|file|image)\s*:",
    re.IGNORECASE,
)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
HEADING = re.compile(r"^(={1,6})(.+?)\1[ \t]*$", re.MULTILINE)


def read_dump(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (title, mark-up) of each article of a bz2 dump in the dump's order, one page in memory at a time."""
    try:
        with bz2.open(path) as stream:
            for _, page in ElementTree.iterparse(stream):
                if not page.tag.endswith("}page"):
                    continue
                xmlns = page.tag.removesuffix("page")
                if page.findtext(f"{xmlns}ns") == "0" and page.find(f"{xmlns}redirect") is None:
                    yield page.findtext(f"{xmlns}title", ""), page.findtext(f"{xmlns}revision/{xmlns}text", "")
                page.clear()
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise HyLoRADAError(f"{path.name} is not a readable Wikipedia dump ({error}); fetch it again.") from error


def clean(markup: str) -> str:
    """Turn the mark-up of one article into plain text: paragraphs and headings with a blank line between them."""
    sections = [(level, _plain(title), _plain(body)) for level, title, body in _sections(COMMENT.sub("", markup))]
    return "\n\n".join(_without_left_out(sections))


def articles(dump: Path, expected: int, progress: bool = True) -> dict[str, str]:
    """Read and clean the articles of a dump: title -> text, with a bar towards the `expected` number of them."""
    from tqdm import tqdm

    pages = tqdm(read_dump(dump), "cleaning articles", expected, unit=" articles", disable=None if progress else True)
    return {title: clean(markup) for title, markup in pages}


def read_split(path: Path) -> dict[str, list[str]]:
    """Read the pinned list: split -> titles. Raises when a split is absent or a title is listed twice."""
    split = read_yaml(path, advice="restore it")
    if not isinstance(split, dict) or set(split) != set(SPLITS) or not all(isinstance(split[p], list) for p in SPLITS):
        raise HyLoRADAError(f"{path.name} must hold exactly the lists {', '.join(SPLITS)}.")
    titles = [title for part in SPLITS for title in split[part]]
    if strange := [title for title in titles if not isinstance(title, str)]:
        raise HyLoRADAError(f"{path.name} lists {strange[0]!r}, which is no title.")
    if twice := sorted({title for title in titles if titles.count(title) > 1}):
        raise HyLoRADAError(f"{path.name} lists {', '.join(map(repr, twice))} twice; an article is in one split.")
    return {part: split[part] for part in SPLITS}


def assign(texts: dict[str, str], split: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """Lay the articles out by the pinned list: split -> columns `title` and `text`, in the list's order.

    Raises when an article of the dump is in no list, or a listed one is not in the dump.
    """
    listed = {title for titles in split.values() for title in titles}
    if unlisted := sorted(set(texts) - listed):
        raise HyLoRADAError(f"articles of the dump that the split list does not name: {', '.join(unlisted)}.")
    if absent := sorted(listed - set(texts)):
        raise HyLoRADAError(f"articles that the split list names and the dump does not hold: {', '.join(absent)}.")
    return {part: {"title": titles, "text": [texts[title] for title in titles]} for part, titles in split.items()}


def count(texts: list[str]) -> dict[str, Any]:
    """Measure one split: articles, characters, words (between white space) and a sha256 over all texts."""
    digest = hashlib.sha256("\x00".join(texts).encode()).hexdigest()
    words = sum(len(text.split()) for text in texts)
    return {"articles": len(texts), "characters": sum(map(len, texts)), "words": words, "text_sha256": digest}


def hold_against(recorded: dict[str, dict[str, Any]], corpus: dict[str, dict[str, list[str]]]) -> None:
    """Raise when the counts or the digest of any split differ from those recorded (which may hold more, as tokens)."""
    for part in SPLITS:
        measured = count(corpus[part]["text"])
        if any(recorded.get(part, {}).get(key) != value for key, value in measured.items()):
            raise HyLoRADAError(
                f"the split {part!r} of wiki came out as {json.dumps(measured)} and data/wiki/counts.json records "
                f"{json.dumps(recorded.get(part))}: install the locked versions (requirements.lock), or, if the "
                "cleaning was changed on purpose, record the new counts."
            )


def _sections(markup: str) -> Iterator[tuple[int, str, str]]:
    """Yield (level, title, body), level 0 for what stands before the first heading.

    Sections are cut before anything is parsed, so that an unclosed table or reference swallows no other section.
    """
    pieces = HEADING.split(markup)  # body, then (marks, title, body) for each heading
    yield 0, "", pieces[0]
    for marks, title, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        yield len(marks), title, body


def _without_left_out(sections: list[tuple[int, str, str]]) -> list[str]:
    """Cut LEFT_OUT_SECTIONS with all below them, and headings under which nothing stands."""
    kept: list[str] = []
    waiting: list[tuple[int, str]] = []  # headings with no text below them yet
    cut_level = 0  # level of the section being cut; 0 when none is
    for level, title, body in sections:
        if cut_level and level > cut_level:
            continue
        cut_level = level if title.lower() in LEFT_OUT_SECTIONS else 0
        if cut_level:
            continue
        waiting = [(upper, name) for upper, name in waiting if upper < level] + [(level, title)]
        if body:
            kept += [name for _, name in waiting if name] + [body]
            waiting = []
    return kept


def _plain(markup: str) -> str:
    import mwparserfromhell

    return _tidy(_render(mwparserfromhell.parse(markup)))


def _render(code: Any) -> str:
    return "".join(map(_render_node, code.nodes)) if code is not None else ""


def _render_node(node: Any) -> str:
    from mwparserfromhell import nodes

    match node:
        case nodes.Text():
            return str(node.value)
        case nodes.HTMLEntity():
            return node.normalize()
        case nodes.Heading():
            return _render(node.title)
        case nodes.Wikilink():
            return _render_link(node)
        case nodes.ExternalLink():
            return _render(node.title)
        case nodes.Template():
            return _render_template(node)
        case nodes.Tag():
            return _render_tag(node)
        case _:  # comments and template arguments
            return ""


def _render_link(link: Any) -> str:
    target = str(link.title)
    if PICTURE_OR_CATEGORY.match(target):
        return ""
    if link.text is not None:
        return _render(link.text)
    return "" if OTHER_PLACE.match(target) else _render(link.title).strip().removeprefix(":")


def _render_template(template: Any) -> str:
    name = str(template.name).strip().lower()
    shown = [_render(parameter.value).strip() for parameter in template.params if not parameter.showkey]
    if name in ("convert", "cvt"):
        unit = next((i for i, value in enumerate(shown) if i and not _is_measure(value)), len(shown) - 1)
        return " ".join(shown[: unit + 1])
    if name in ("chem", "chem2"):
        return "".join(shown)
    index = SHOWN_ARGUMENT.get(name, len(shown))
    return shown[index] if index < len(shown) and shown else ""


def _is_measure(value: str) -> bool:
    return value in CONVERT_CONNECTORS or value[:1].isdigit() or value[:1] in "-−+." and value[1:2].isdigit()


def _render_tag(tag: Any) -> str:
    name = str(tag.tag).strip().lower()
    if name in LEFT_OUT_TAGS:
        return ""
    if name == "br":
        return "\n"
    block = name in ("blockquote", "poem", "div", "center", "p", "ol", "ul")
    return f"\n\n{_render(tag.contents)}\n\n" if block else _render(tag.contents)


def _tidy(text: str) -> str:
    """Drop what mark-up left behind (empty brackets, stray marks, broken tables) and normalise white space."""
    text = re.sub(r"\[\[(?:file|image|category)\s*:[^\]\n]*\]*", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\{\{|\}\}|\[\[|\]\]|'{2,}|__[A-Z]+__|</?[a-z]+[^<>\n]*>", "", text)
    text = re.sub(r"^\s*(?:[|!]|\{\||(?:file|image|thumb)\s*[:|]).*$", "", text, flags=re.MULTILINE | re.IGNORECASE)
    text = re.sub(r"[^\S\n]+", " ", text)
    for _ in range(2):  # an empty pair of brackets may sit inside another
        text = re.sub(r"\([\s,;:/–-]*\)|\[\s*\]|\"\"", "", text)
    text = re.sub(r"\(\s*[,;:]\s*", "(", text)
    text = re.sub(r"\s*[,;:]\s*\)", ")", text)
    text = re.sub(r" +([,.;:!?)])", r"\1", text)
    text = re.sub(r"\( +", "(", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    lines = (line.strip().lstrip("*#:; ") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if line == "" or re.search(r"\w", line))).strip()
