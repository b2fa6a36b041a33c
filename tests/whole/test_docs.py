"""What can be read without running anything is of the records that are kept, and as it was made."""

import re
from html import unescape

import pytest
from pypdf import PdfReader
from repository import ROOT

from hylorada.files import sha256_of
from hylorada.reading import read_json

DOCS, MADE = ROOT / "docs", read_json(ROOT / "docs" / "made.json")
PAGE = (DOCS / "index.html").read_text(encoding="utf-8")
LARGEST = 2_000_000  # bytes of the page


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        import make_docs
    return make_docs


def test_paper_and_page_are_of_the_records_of_the_largest_kept_scale(tool):
    assert MADE["scale"] == tool.kept_scale(tool.largest_kept(tool.REFERENCE)), "run `make docs`"
    assert MADE["records"] == tool.digest_of(ROOT / "data" / "reference" / MADE["scale"]), "run `make docs`"


def test_a_record_that_changes_is_noticed(tool, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text("{}")
    before = tool.digest_of(tmp_path)
    (tmp_path / "run" / "record.json").write_text("{ }")
    changed = tool.digest_of(tmp_path)
    (tmp_path / "run" / "record.json").rename(tmp_path / "run" / "other.json")
    assert len({before, changed, tool.digest_of(tmp_path)}) == 3


@pytest.mark.parametrize("file", MADE["made"])
def test_what_was_made_is_as_it_was_made(file):
    assert sha256_of(ROOT / file) == MADE["made"][file], "run `make docs`; nothing in it is edited by hand"


def test_the_readme_says_what_the_page_says():
    (part,) = re.findall("<!-- made: result -->(.*?)<!-- end -->", (ROOT / "README.md").read_text(), re.DOTALL)
    told = re.findall(r"^- \*\*.*?\*\* (.+)$", part, re.MULTILINE)
    assert len(told) == 3 and all(text in unescape(PAGE) for text in told), "run `make docs`"


def test_the_paper_tells_no_date_and_no_place():
    reader = PdfReader(DOCS / "paper.pdf")
    assert not [name for name in reader.metadata if "Date" in name]
    assert not [text for text in reader.metadata.values() if "/" in str(text).removeprefix("/")]
    assert len(reader.pages) > 5 and str(ROOT).encode() not in (DOCS / "paper.pdf").read_bytes()


def test_the_page_is_small_and_its_links_lead_to_files():
    assert len(PAGE.encode()) < LARGEST
    links = {link for link in re.findall(r'<a href="([^"#]+)"', PAGE)}
    assert "paper.pdf" in links and len(links) > 100
    assert [link for link in links if not (DOCS / link).is_file()] == []
    assert str(ROOT) not in PAGE
