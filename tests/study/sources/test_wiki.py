"""The wiki corpus: what mark-up leaves behind, and how articles find their split."""

import bz2
import re

import pytest
from repository import ROOT

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import wiki
from hylorada.study.sources.splits import SPLITS

PAGE = "<page><title>{title}</title><ns>{ns}</ns>{redirect}<revision><text>{text}</text></revision></page>"
LEFTOVER = re.compile(r"\[\[|\]\]|\{\{|\}\}|thumb\||File:|Image:|Category:|<ref|''|&nbsp;|\{\|")


def dump_of(pages, path):
    body = "".join(PAGE.format(**{"ns": 0, "redirect": "", **page}) for page in pages)
    path.write_bytes(bz2.compress(f'<mediawiki xmlns="urn:export">{body}</mediawiki>'.encode()))
    return path


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''slanted'' words", "Bold and slanted words"),
        ("a [[link]], a [[target|shown]], [[plural]]s", "a link, a shown, plurals"),
        ("[[File:A.jpg|thumb|200px|A [[caption]] with ''marks'']]Text", "Text"),
        ("Text\n[[Category:Things]]\n[[fr:Chose]]\n[[:Category:Kept out]]", "Text"),
        ("the word [[wikt:thing|thing]]", "the word thing"),
        ("Text{{citation needed|date=May 2010}} goes on{{sfn|Who|2001|p=3}}.", "Text goes on."),
        ("{{Infobox thing\n| name = {{lang|la|Res}}\n| size = 3\n}}\nText", "Text"),
        ("over {{convert|10|km|mi}} and {{convert|5|to|6|ft|m}} away", "over 10 km and 5 to 6 ft away"),
        ("in {{lang|la|res publica}} terms, {{nowrap|never [[Broken line|broken]]}}", None),
        ("One.<ref>Not here.</ref> Two.<ref name=a /> Three.", "One. Two. Three."),
        ("One<!-- a remark\n== with a heading ==\n--> two", "One two"),
        ("Before\n{| class=wikitable\n|-\n! head\n| cell {{small|x}}\n|}\nAfter", "Before\n\nAfter"),
        ("Before\n<gallery>\nFile:A.jpg|caption\n</gallery>\nAfter", "Before\n\nAfter"),
        ("water is H<sub>2</sub>O, area <math>a^{{2}}</math> here", "water is H2O, area here"),
        ("* one\n* two\n# three\n: four", "one\ntwo\nthree\nfour"),
        ("see [http://example.invalid the page] [http://example.invalid]", "see the page"),
        ("A&nbsp;B &ndash; C   D\n\n\n\nE", "A B – C D\n\nE"),
        ("Rome ({{lang-la|Roma}}; {{IPA-it|x}}) is old ( {{x}} (, ) ).", "Rome is old."),
        ("'''Unclosed bold\n\nA [[broken link\n\nB {{broken template", None),
        ("__NOTOC__\nText<br />more", "Text\nmore"),
    ],
)
def test_only_running_text_stays(markup, text):
    cleaned = wiki.clean(markup)
    assert not LEFTOVER.search(cleaned)
    assert cleaned.strip()
    if text is not None:
        assert cleaned == text


def test_words_inside_shown_templates_stay():
    assert wiki.clean("in {{lang|la|res publica}} and {{nowrap|two [[word|words]]}}") == "in res publica and two words"


def test_reference_sections_leave_with_all_below_them_and_the_next_section_stays():
    markup = "Lead.\n== See also ==\n* x\n=== Deeper ===\ny\n== Told ==\nStory.\n== References ==\n{{reflist}}\nz"
    assert wiki.clean(markup) == "Lead.\n\nTold\n\nStory."


def test_headings_without_text_leave_and_their_parents_with_text_stay():
    markup = "Lead.\n== A ==\n=== B ===\nStory.\n=== Table ===\n{|\n| x\n|}\n== Empty ==\n{{clear}}\n== C ==\nEnd."
    assert wiki.clean(markup) == "Lead.\n\nA\n\nB\n\nStory.\n\nC\n\nEnd."


@pytest.mark.parametrize("unclosed", ["{| class=wikitable\n| cell", "<ref>never closed", "{{quote|never closed"])
def test_an_unclosed_element_swallows_no_other_section(unclosed):
    markup = f"Lead.\n== One ==\nFirst.\n{unclosed}\n== Two ==\nSecond.\n{{|\n| x\n|}}\nThird.<ref>a</ref>"
    cleaned = wiki.clean(markup)
    assert "Two\n\nSecond.\n\nThird." in cleaned
    assert not LEFTOVER.search(cleaned)


def test_a_dump_gives_its_articles_without_redirects_and_other_namespaces(tmp_path):
    pages = [
        {"title": "One", "text": "First &amp;amp; text"},
        {"title": "Old name", "text": "#REDIRECT [[One]]", "redirect": '<redirect title="One"/>'},
        {"title": "Talk:One", "text": "Chat", "ns": 1},
        {"title": "Two", "text": "Second"},
    ]
    articles = wiki.articles(dump_of(pages, tmp_path / "dump.bz2"), expected=2, progress=False)
    assert articles == {"One": "First & text", "Two": "Second"}


def test_a_broken_dump_is_one_clear_error(tmp_path):
    whole = dump_of([{"title": "One", "text": "x" * 1000}], tmp_path / "dump.bz2")
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(HyLoRADAError, match="dump.bz2 is not a readable Wikipedia dump"):
        list(wiki.read_dump(whole))


def test_an_article_outside_the_list_and_a_listed_one_that_is_absent_are_errors():
    split = {"train": ["One"], "validation": ["Two"], "test": ["Three"]}
    texts = {"One": "1", "Two": "2", "Three": "3"}
    assert wiki.assign(texts, split)["test"] == {"title": ["Three"], "text": ["3"]}
    with pytest.raises(HyLoRADAError, match="does not name: Four"):
        wiki.assign({**texts, "Four": "4"}, split)
    with pytest.raises(HyLoRADAError, match="does not hold: Three"):
        wiki.assign({"One": "1", "Two": "2"}, split)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("train: [a]\nvalidation: [b]\n", "exactly the lists train, validation, test"),
        ("train: [a]\nvalidation: [b]\ntest: [a]\n", "lists 'a' twice"),
    ],
)
def test_a_wrong_split_list_is_refused(tmp_path, content, complaint):
    (tmp_path / "split.yaml").write_text(content)
    with pytest.raises(HyLoRADAError, match=complaint):
        wiki.read_split(tmp_path / "split.yaml")


def test_counts_that_differ_from_the_recorded_ones_stop_the_fetch():
    corpus = {part: {"title": ["x"], "text": [f"some words in {part}"]} for part in SPLITS}
    recorded = {part: wiki.count(corpus[part]["text"]) for part in SPLITS}
    wiki.hold_against({part: {**counts, "smollm2_tokens": 4} for part, counts in recorded.items()}, corpus)
    corpus["test"]["text"][0] = "some words in tesT"  # as many articles, characters and words
    with pytest.raises(HyLoRADAError, match="the split 'test' of wiki came out as"):
        wiki.hold_against(recorded, corpus)


def test_the_pinned_list_and_the_recorded_counts_agree():
    import json

    folder = ROOT / "data" / "wiki"
    split, counts = wiki.read_split(folder / "split.yaml"), json.loads((folder / "counts.json").read_text())
    assert {part: len(split[part]) for part in SPLITS} == {part: counts[part]["articles"] for part in SPLITS}
    assert {part: len(titles) for part, titles in split.items()} == {"train": 80, "validation": 13, "test": 13}
