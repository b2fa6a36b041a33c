"""The page: all claims on it, each number led to its run, nothing from elsewhere, and usable in a browser."""

import re
import shutil
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_claims import AWKWARD, fake_claims
from fake_records import fake_record, fake_store, fake_study
from PIL import Image
from repository import ROOT, scale_file

from hylorada.cli import main
from hylorada.errors import HyLoRADAError
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.study.claims.catalogue import load_catalogue
from hylorada.study.claims.summary import Change, Step, steps, was_claimed, was_found, what_follows
from hylorada.study.claims.verdict import GROUPS, VERDICTS
from hylorada.study.figures.rows import FIGURES
from hylorada.study.figures.style import save_figure
from hylorada.study.page.pictures import with_palette
from hylorada.study.page.statements import claimed_text
from hylorada.study.paper.tables import write_tables
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.archive import read_archive
from hylorada.study.records.records import study_records
from hylorada.study.results.protocols import protocol_table
from hylorada.study.results.results import read_results
from hylorada.study.results.tables import ablation_table
from hylorada.study.results.words import percentage

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """The elements of a page, each with its attributes and the text in it."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        text: list[str] = []
        self.elements.append((tag, dict(attrs), text))
        if tag not in VOID:
            self.open.append((tag, text))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        for _, text in self.open:
            text.append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]

    def by_id(self, name: str) -> str:
        (found,) = ["".join(text) for _, attrs, text in self.elements if attrs.get("id") == name]
        return found

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs, _ in self.elements if "id" in attrs]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder as the workflow leaves it before the page, of the ablation and its run as published with one seed."""
    folder = tmp_path_factory.mktemp("page")
    runs = folder / "results" / "runs"
    fake_study(runs)
    scale = scale_file("micro")
    (folder / "own.yaml").write_text(yaml.safe_dump(scale | {"studies": {"as_published": {"seeds": [0]}}}))
    settings = load_settings(str(folder / "own.yaml"))
    for row, (run,) in plan(settings, "as_published").items():
        stage = row.removeprefix("published_")
        store = fake_store(stage, run.seed, settings.block_tokens, 0.002, 0.01)
        record = fake_record(replace(run, stage=stage), store)
        results = record.results | {"published_perplexity": store.arithmetic_perplexity()}
        record = replace(record, name=run.name, identity=run.identity, results=results)
        run.folder(runs).mkdir()
        store.save(run.folder(runs) / "nll.npz")
        write_json(run.folder(runs) / "record.json", record.to_json())
    records = study_records(settings, "ablation", runs)
    write_tables(
        read_results(settings, runs), folder / "paper" / "tables", folder / "results" / "tables" / "ablation.csv"
    )
    save_figure(FIGURES["ablation"].draw(records, STAGES), folder / "figures" / "ablation")
    names = [record.name for record in records.by_run.values()]
    write_json(folder / "results" / "claims.json", fake_claims(names, scale="own", digest=records.digest))
    return folder, records


@pytest.fixture(scope="module")
def html(study):
    """The page, made by the command."""
    with pytest.MonkeyPatch.context() as patch:
        assert run_page(study[0], patch) == 0
    return (study[0] / "results" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def run_page(folder: Path, monkeypatch, *more: str) -> int:
    monkeypatch.chdir(folder)
    return main(["page", "--scale", "own.yaml", *more])


def test_every_claim_is_there_with_its_verdict_and_the_way_to_its_runs(study, page):
    claims = read_json(study[0] / "results" / "claims.json")["claims"]
    assert len(claims) > 10
    for claim in claims:
        text = page.by_id(claim["id"])
        for part in (claim["quantity"], claim["verdict"], claim["reason"], claim["source"]):
            assert part in text, (claim["id"], part)
        assert claimed_text(claim) in text
    links = {attrs["href"] for attrs, _ in page.all("a")}
    assert {f"#run-{name}" for claim in claims for name in claim["records"]} <= links
    assert page.by_id("X01").startswith(AWKWARD)


def test_every_link_leads_to_something_on_the_page_or_to_a_record_beside_it(study, page):
    assert len(set(page.ids)) == len(page.ids)
    links = [attrs["href"] for attrs, _ in page.all("a")]
    inside = [link[1:] for link in links if link.startswith("#")]
    assert inside and {link.partition("?")[0] for link in inside} <= set(page.ids)
    filtered = [link for link in inside if "?" in link]
    assert filtered == [f"claims?verdict={group}" for group in GROUPS]
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert len(files) == len(list((study[0] / "results" / "runs").iterdir())) > len(study[1].by_run)
    assert all((study[0] / "results" / file).is_file() for file in files)


def test_each_run_tells_settings_commit_code_and_machine(study, page):
    """What runs have in common stands once, above them."""
    together = page.by_id("result-ablation")
    for record in study[1].by_run.values():
        own = page.by_id(f"run-{record.name}")
        assert own in together and f"perplexity {record.results['perplexity']:.2f}" in own
        for part in (record.git.commit, record.machine.processor, record.specification.code[:12]):
            assert part in together
        if record.training:
            assert own.startswith(f"Seed {record.specification.training.seed}")
            assert f"learning_rate={record.specification.training.learning_rate}" in together


def test_each_number_of_a_table_leads_to_its_runs(study, page):
    links = {attrs["href"] for attrs, _ in page.all("a")}
    for stage, seed in study[1].by_run:
        assert f"#run-{study[1].record(stage, seed).name}" in links
        assert f"row-ablation-{stage}" in page.ids and f"row-as_published-published_{stage}" in page.ids
    assert "one seed" in page.by_id("row-as_published-published_rslora")
    both = page.by_id("row-protocols-rslora")
    assert "as published, seed 0" in both and "corrected, seed 2" in both
    shown = page.by_id("row-ablation-rslora")
    row = ablation_table(study[1]).set_index("stage").loc["rslora"]
    assert f"{row['perplexity']:.2f}" in shown and f"{abs(row['effect']):.2f}" in shown


def test_effects_have_one_sign_and_one_minus(page, study):
    """Below zero is better, also where a gain was published; of the hyphens only those in names and dates are left."""
    text = page.all("body")[0][1]
    assert re.findall(r"(?:^|[\s(])-\d[^\n]{0,20}", text.partition('"use strict"')[0]) == []
    claims = {claim["id"]: claim for claim in read_json(study[0] / "results" / "claims.json")["claims"]}
    assert claimed_text(claims["AF-021"]) == "perplexity −17.07\N{NO-BREAK SPACE}%"
    assert claimed_text(claims["AF-032"]) == "perplexity +5.62\N{NO-BREAK SPACE}%"
    assert claimed_text({"as_change": "", "claimed": "69.00 ppl"}) == "69.00 ppl"


def test_the_claim_about_the_plain_magnitude_is_not_told_of_the_gated_one(page):
    heads = [text for attrs, text in page.all("th") if attrs["scope"] == "row"]
    assert "+ magnitude (corrected: gated magnitude)" in heads
    assert "+ gated magnitude (as published: magnitude)" in heads


def test_what_is_not_asked_for_is_folded(page):
    """So that a keyboard does not pass a thousand links: no part is open, and each statement and table is in one."""
    assert not [attrs for attrs, _ in page.all("details") if "open" in attrs]
    parts = "".join(text for attrs, text in page.all("details") if attrs.get("class") in ("group", "result"))
    folded = [text for attrs, text in page.all("li") if "data-verdict" in attrs]
    folded += [text for attrs, text in page.all("div") if attrs.get("class") == "table"]
    assert len(folded) > 12 and all(text in parts for text in folded)


def test_every_verdict_is_explained_and_every_table_can_be_taken_along(page, study):
    assert all(
        meaning.says in page.by_id("verdicts")
        for name, meaning in VERDICTS.items()
        if name.lower() in ("match", "mismatch", "inconclusive", "not measurable", "structural zero")
    )
    taken = {attrs["download"]: attrs["href"] for attrs, _ in page.all("a") if "download" in attrs}
    tables = study[0] / "results" / "tables"
    assert set(taken) == {"ablation.csv", "as_published.csv", "protocols.csv", "efficiency.csv", "cost.csv"}
    for name, link in taken.items():
        assert b64decode(link.partition("base64,")[2]) == (tables / name).read_bytes()


def test_the_page_leads_to_the_paper_where_there_is_one(study, page, monkeypatch, tmp_path):
    assert "The paper (PDF)" not in [text for _, text in page.all("a")]
    paper, out = tmp_path / "a paper.pdf", tmp_path / "page.html"
    paper.write_bytes(b"%PDF")
    assert run_page(study[0], monkeypatch, "--paper", str(paper), "--out", str(out)) == 0
    links = {text: attrs["href"] for attrs, text in Page(out.read_text(encoding="utf-8")).all("a")}
    assert links["The paper (PDF)"] == "a paper.pdf"


def test_a_figure_keeps_its_look_in_fewer_bytes(study):
    drawn = (study[0] / "figures" / "ablation.png").read_bytes()
    small = with_palette(drawn)
    one, other = (np.asarray(Image.open(BytesIO(png)).convert("RGB"), dtype=int) for png in (drawn, small))
    assert len(small) < len(drawn) / 2 and one.shape == other.shape
    assert np.abs(one - other).mean() < 0.5, "of 255"
    assert len(with_palette(small)) <= len(small)


def test_nothing_comes_from_elsewhere(page, html):
    for tag, attrs, _ in page.elements:
        for name in ("src", "srcset", "action", "poster", "data", "href"):
            if tag != "a" and name in attrs:
                assert attrs[name].startswith("data:"), (tag, attrs)
    for part in ("css", "js", "html"):
        source = (ROOT / "report" / f"page.{part}").read_text()
        assert not re.search(r"https?:|//\w|@import|url\(|fetch\(|XMLHttp", source), part
    policy = next(attrs for attrs, _ in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy["content"]
    assert html.count("<script") == html.count("</script>") == 1


def test_what_is_data_is_never_markup(page, html):
    assert AWKWARD not in html and "onerror" in html
    assert not [attrs for _, attrs, _ in page.elements if "onerror" in attrs]
    assert len(page.all("img")) == 1 and page.all("b") == []


def test_people_who_do_not_see_or_point_can_use_it(page):
    named = {attrs["for"] for attrs, _ in page.all("label") if "for" in attrs}
    for tag in ("input", "select"):
        for attrs, _ in page.all(tag):
            assert attrs.get("id") in named or attrs.get("type") == "radio", attrs
    assert all(attrs["alt"].strip() for attrs, _ in page.all("img"))
    assert page.all("html")[0][0]["lang"] == "en" and len(page.all("h1")) == 1 and len(page.all("main")) == 1
    assert all(attrs["scope"] in ("row", "col") for attrs, _ in page.all("th"))
    radios = [attrs for attrs, _ in page.all("input") if attrs["type"] == "radio"]
    labels = [text for attrs, text in page.all("label") if attrs.get("class") == "choice"]
    assert len(radios) == len(labels) > 3 and all(text.strip() for text in labels)
    assert not any("direction only" in text for text in labels), "a verdict that no claim has is no choice"


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme):
    style = (ROOT / "report" / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[scheme == "dark"]))
    assert len(colours) >= 12
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("paper", "tint")]
    pairs += [(group, f"{group}-tint") for group in ("holds", "fails", "open")]
    for ink, ground in pairs:
        dark, light = sorted((luminance(colours[ink]), luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink, ground)


def test_the_same_files_give_the_same_page(study, html, monkeypatch, capsys, caplog):
    assert run_page(study[0], monkeypatch) == 0
    assert (study[0] / "results" / "index.html").read_text(encoding="utf-8") == html
    assert "results/index.html" in capsys.readouterr().out
    assert re.search("not drawn, so not on the page: .*position_nll, .*published_numbers", caplog.text)
    assert study[1].digest in html


def test_what_is_missing_or_of_another_scale_is_refused(study, monkeypatch, capsys, tmp_path):
    own = Path(shutil.copytree(study[0], tmp_path / "own"))
    claims = own / "results" / "claims.json"
    good = read_json(claims)
    write_json(claims, good | {"scale": "full"})
    assert run_page(own, monkeypatch) == 2 and "is of scale 'full'" in capsys.readouterr().err
    stranger = good["claims"][0] | {"records": ["rslora-seed9-00000000"]}
    write_json(claims, good | {"claims": [stranger, *good["claims"][1:]]})
    assert run_page(own, monkeypatch) == 2 and "rslora-seed9-00000000" in capsys.readouterr().err
    write_json(claims, good | {"claims": good["claims"][1:]})
    assert run_page(own, monkeypatch) == 2 and "AF-021" in capsys.readouterr().err
    write_json(claims, good | {"claims": [*good["claims"], good["claims"][0]]})
    assert run_page(own, monkeypatch) == 2 and "judges a statement twice" in capsys.readouterr().err
    write_json(claims, good | {"records_digest": 3})
    assert run_page(own, monkeypatch) == 2 and "lacks records_digest" in capsys.readouterr().err
    write_json(claims, good)
    picture = own / "figures" / "ablation.png"
    held = picture.read_bytes()
    for damaged in (b"", b"<svg>", held[: len(held) // 2]):
        picture.write_bytes(damaged)
        assert run_page(own, monkeypatch) == 2 and "ablation.png is damaged, or no PNG" in capsys.readouterr().err
    picture.write_bytes(held)
    table = own / "results" / "tables" / "ablation.csv"
    table.write_bytes(table.read_bytes().splitlines()[0])
    assert run_page(own, monkeypatch) == 2 and "ablation.csv has no row" in capsys.readouterr().err
    (own / "results" / "tables" / "ablation.csv").unlink()
    assert run_page(own, monkeypatch) == 2 and "ablation.csv is not there" in capsys.readouterr().err
    claims.unlink()
    assert run_page(own, monkeypatch) == 2 and "claims.json is not there" in capsys.readouterr().err


def change(mean: float, resolved: bool, seeds: int = 3) -> Change:
    ends = (None, None) if seeds == 1 else (mean - 1, mean + 1)
    return Change(mean, *ends, resolved)


def step(stage: str, claimed: float, corrected: Change | None) -> Step:
    return Step(stage, {}, claimed, None, corrected)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([step("rslora", -17.0, change(-5.0, True))], "rsLoRA moves perplexity in the claimed direction"),
        (
            [step("magnitude", 5.6, change(-5.0, True))],
            "gated magnitude moves perplexity against the claimed direction",
        ),
        ([step("landmarks", -4.8, change(-5.0, False))], "none of the five steps can be told from chance"),
        ([step("landmarks", -4.8, None)], "none of the five steps can be told from chance"),
        (
            [step("rslora", -17.0, change(-5.0, True)), step("landmarks", -4.8, change(-2.0, True))],
            "rsLoRA and landmarks move perplexity in the claimed direction",
        ),
    ],
)
def test_what_follows_is_chosen_by_the_numbers(found, said):
    text = what_follows({"reproduced": 2, "mismatch": 3, "inconclusive": 4}, found)
    assert text.startswith("2 of 9 statements hold, 3 do not, and 4 stay open (4 inconclusive).")
    assert said in text


def test_what_was_found_is_chosen_by_the_numbers():
    table = pd.DataFrame({"stage": ["base", "landmarks"], "corpus": [20.0, 15.0], "corpus_seeds": [0, 3]})
    said = was_found(table, "corpus", [change(-5.0, True), change(1.0, True), change(0.1, False)])
    assert f"lowers perplexity by {percentage(25)} against the untouched base" in said
    assert "2 of 3 steps can be told from chance: 1 lower perplexity, 1 raise it." in said
    worse = was_found(table.assign(corpus=[15.0, 20.0]), "corpus", [change(-5.0, False)])
    assert f"raises perplexity by {percentage(33.33)}" in worse and "0 of 1 steps can be told from chance." in worse
    assert "leaves perplexity as it was" in was_found(table.assign(corpus=15.0), "corpus", [change(0.0, False)])
    single = table.assign(corpus_seeds=1)
    assert "With one seed of each no step" in was_found(single, "corpus", [change(-5.0, False, seeds=1)])
    assert "With few articles of each no step" in was_found(table, "corpus", [change(-5.0, False, seeds=1)])
    cut = was_found(table, "corpus", [change(0.1, False)], "3 of 125 steps")
    assert cut.startswith(f"The same stage, after 3 of 125 steps, lowers perplexity by {percentage(25)}")
    assert was_found(table, "published", [None]) == "Not run at this scale."
    short = table.assign(published=table["corpus"], published_seeds=1, published_short=True)
    assert was_found(short, "published", [change(-5.0, False, seeds=1)]).startswith("Not decided at this budget")


def test_what_was_claimed_comes_from_the_claims(study):
    claims = fake_claims(["a"])["claims"]
    headlines = load_catalogue().headlines
    assert was_claimed(claims, headlines).startswith(f"{len(claims)} statements in 2 documents.")
    assert f"landmarks, is said to lower perplexity by {percentage(18.37)}" in was_claimed(claims, headlines)
    bare = [claim | {"claimed": claim["claimed"].removesuffix(" %")} for claim in claims]
    assert was_claimed(bare, headlines) == was_claimed(claims, headlines), "with its unit it is the same number"
    found = steps(claims, headlines, protocol_table(None, study[1]))
    assert [step.claimed for step in found] == [-17.07, 5.62, -2.11, -4.8, 2.26]
    with pytest.raises(HyLoRADAError, match="AF-021 is 'much', and the summary needs its number"):
        steps([claims[0] | {"claimed": "much"}, *claims[1:]], headlines, protocol_table(None, study[1]))
    assert all(step.corrected is not None and step.as_published is None for step in found)


def test_records_are_found_whatever_code_made_them(study):
    archive = read_archive(study[0] / "results" / "runs")
    record = next(r for r in archive.records.values() if r.specification.stage == "base")
    newer = Run("base", None, replace(record.specification, code="f" * 64), "smollm2-135m", "wiki", "base")
    assert newer.name != record.name and archive.of(newer) == record
    other = Run("base", None, replace(record.specification, dtype="float32"), "smollm2-135m", "wiki", "base")
    assert archive.of(other) is None


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not CHROMIUM or not shutil.which("chromedriver"):
        pytest.skip("Chromium or its driver is not installed")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    quiet = ("background-networking", "component-update", "sync")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", *(f"disable-{name}" for name in quiet)):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options, selenium.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, html, tmp_path):
    """The page in a window of a desk."""
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    window(browser, 1280, 900)
    browser.get((tmp_path / "index.html").as_uri())
    return browser


def window(browser, width: int, height: int, **features: str) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


def shown(browser) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('.claims > li')].filter(e => !e.hidden).map(e => e.id)"
    )


def place(browser) -> str:
    return browser.execute_script("return location.hash")


def at_the_top(browser, name: str) -> bool:
    return 0 <= browser.execute_script(f"return document.getElementById('{name}').getBoundingClientRect().top") < 40


def test_in_a_browser_a_click_filters_and_a_word_searches(opened):
    everything = shown(opened)
    assert len(everything) > 10 and not opened.find_element("id", "RN-004").is_displayed()
    opened.find_element("css selector", "input[value='structural zero']").click()
    assert shown(opened) == ["RN-004"] and opened.find_element("id", "RN-004").is_displayed()
    assert opened.find_element("id", "shown").text == f"1 of {len(everything)} statements shown."
    opened.find_element("id", "all").click()
    assert shown(opened) == everything
    opened.find_element("id", "search").send_keys("landmarks af-05")
    assert sorted(shown(opened)) == ["AF-051", "AF-052"], "both words, in whatever order"
    opened.find_element("id", "search").clear()
    opened.find_element("css selector", "#document option[value='Research notes']").click()
    assert shown(opened) and all(name.startswith("RN") for name in shown(opened))
    assert opened.get_log("browser") == []


def test_in_a_browser_the_address_holds_the_filters_and_the_back_button_undoes_them(opened):
    everything = shown(opened)
    opened.find_element("css selector", ".tally .fails").click()
    assert place(opened) == "#claims?verdict=fails" and sorted(shown(opened)) == ["RN-001", "RN-004", "RN-005"]
    opened.find_element("id", "search").send_keys("af")
    assert place(opened) == "#claims?search=af&verdict=fails"
    opened.back()
    assert sorted(shown(opened)) == ["RN-001", "RN-004", "RN-005"], "what was typed is one step"
    opened.back()
    assert place(opened) == "" and shown(opened) == everything
    opened.get(opened.current_url.partition("#")[0] + "#claims?document=Research+notes&search=quantity+RN-000")
    opened.refresh()
    assert (
        shown(opened) == ["RN-000"] and opened.find_element("id", "search").get_attribute("value") == "quantity RN-000"
    )


def test_in_a_browser_a_number_is_followed_to_its_run(opened):
    opened.find_element("css selector", "input[value='mismatch']").click()
    assert "AF-021" not in shown(opened)
    opened.find_element("css selector", "section table a[href='#AF-021']").click()
    claim = opened.find_element("id", "AF-021")
    assert claim.is_displayed() and claim.find_element("tag name", "details").get_attribute("open")
    assert at_the_top(opened, "AF-021"), "a claim that a filter hid is scrolled to once it is there"
    link = claim.find_element("css selector", "a[href^='#run-rslora']")
    name = link.get_attribute("href").split("#")[1]
    link.click()
    run = opened.find_element("id", name)
    assert run.is_displayed() and at_the_top(opened, name) and run.find_element("tag name", "a").text == "record"
    opened.back()
    opened.back()
    assert shown(opened) == ["RN-001"], "the way back leads to what was shown before"


def test_in_a_browser_a_key_passes_few_links(opened):
    """Tab goes through what is there, not through what is folded away."""
    stops = opened.execute_script(
        "return [...document.querySelectorAll('a[href], summary, input:checked, input[type=search], select, button')]"
        ".filter(e => e.checkVisibility()).length"
    )
    assert stops < 60


def test_in_a_browser_keys_are_enough(opened):
    from selenium.webdriver.common.keys import Keys

    body = opened.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    assert opened.switch_to.active_element.get_attribute("class") == "skip"
    for part in (".group:has(#AF-021) > summary", "#AF-021 summary"):
        opened.find_element("css selector", part).send_keys(Keys.ENTER)
    assert opened.find_element("css selector", "#AF-021 dl").is_displayed()


@pytest.mark.parametrize("width", [320, 390, 768, 1000, 1280])
def test_at_no_width_of_a_phone_or_a_desk_is_anything_scrolled_sideways(opened, width):
    window(opened, width, 800)
    opened.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    wide = opened.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility()"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_in_the_dark_the_ground_is_dark(opened):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = opened.execute_script(ground)
    window(opened, 1280, 900, prefers_color_scheme="dark")
    assert light == "rgb(255, 255, 255)" != opened.execute_script(ground)
    assert len(opened.get_screenshot_as_png()) > 10_000
