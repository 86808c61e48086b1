"""The page in a real browser, from disk: what a reader can do with it, and what it must not do."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_samples import METHODS, SETS, arena, drawn_scores, thumbnails

from gradood.report import Report

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, which gradood[test] brings"
)

HOSTILE = '</script><img src=x onerror="window.hacked=1"><b>\'&'
# Nothing of its own may go to the network either, or its noise hides that of the page.
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)
LUMINANCE = """() => {
  const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).map(Number);
  return (r + g + b) / 3;
}"""


class Visit:
    """An open page, and what it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        settings = {"viewport": {"width": 1280, "height": 900}, **options}
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(5000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def methods(self) -> list[str]:
        """Of the leaderboard, from the top."""
        return self.page.locator("#board tbody th a").all_inner_texts()

    def column(self, key: str) -> Any:
        """The button that sorts by a column."""
        return self.page.locator(f'#board thead button[data-column="{key}"]')

    def sorted_by(self) -> list[str]:
        """The state that every sorted column tells."""
        heads = self.page.locator('#board th[aria-sort]:not([aria-sort="none"])')
        return [f"{h.inner_text()[:4]} {h.get_attribute('aria-sort')}" for h in heads.all()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium, which is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A page of two runs with thumbnails, and its record."""
    scores = drawn_scores(runs=("net#0", "net#1"))
    for method, values in scores["net#1"]["svhn"].items():
        scores["net#1"]["svhn"][method] = values - (3 if method == "energy" else 0)
    record = arena(scores)
    path = tmp_path_factory.mktemp("page") / "page.html"
    Report.of(record, scores, thumbnails).write(path)
    return path, record


@pytest.fixture
def visit(browser: Any, made: tuple[Path, dict[str, Any]]) -> Iterator[Visit]:
    """The page, which must not have complained or asked for anything by the end."""
    opened = Visit(browser, made[0])
    yield opened
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [made[0].as_uri()]
    opened.context.close()


def means(record: dict[str, Any], group: str = "all", run: int = 0) -> dict[str, float]:
    rows = record["runs"][run]["means"]
    return {row["method"]: row["auroc"] for row in rows if row["group"] == group}


def descending(values: dict[str, float]) -> list[str]:
    return sorted(values, key=lambda name: -values[name])


def test_it_opens_on_the_best_method_with_every_drawing(visit, made):
    page, best = visit.page, descending(means(made[1]))[0]
    assert visit.methods() == descending(means(made[1]))
    assert page.locator(".pick .name").first.inner_text() == best
    assert page.locator("#method-text b").inner_text() == best
    for drawing in ("#roc", "#histogram", "#scatter", "#heat", "#ranks"):
        assert page.locator(f"{drawing} svg").bounding_box()["height"] > 80
        assert page.locator(f"{drawing} svg").get_attribute("aria-label")
    assert page.locator("#roc path").count() == len(METHODS)
    assert page.locator("#scatter circle.point").count() == len(METHODS)
    assert page.locator("#heat rect").count() == len(METHODS) ** 2 + 1
    assert page.locator("#ranks circle").count() == len(METHODS)
    assert page.locator(".tile").count() == 4 * 8
    image = page.locator(".tile").first.evaluate("e => getComputedStyle(e).backgroundImage")
    assert image.startswith('url("data:image/jpeg;base64,')


def test_it_sorts_by_a_click(visit, made):
    near = descending(means(made[1], "near"))
    visit.column("mean near").click()
    assert visit.methods() == near
    assert visit.sorted_by() == ["Near descending"]
    visit.column("mean near").click()
    assert visit.methods() == near[::-1]
    assert visit.sorted_by() == ["Near ascending"]
    visit.column("method").click()
    assert visit.methods() == sorted(METHODS)


def test_it_sorts_by_the_keyboard_and_keeps_the_focus(visit, made):
    far = descending(means(made[1], "far"))
    visit.column("mean far").focus()
    visit.page.keyboard.press("Enter")
    assert visit.methods() == far
    visit.page.keyboard.press("Space")
    assert visit.methods() == far[::-1]
    assert visit.page.evaluate("document.activeElement.dataset.column") == "mean far"


def test_the_measure_and_the_sense_of_fpr95_are_switched_and_named(visit, made):
    page = visit.page
    row = {m["method"]: m for m in made[1]["runs"][0]["means"] if m["group"] == "all"}
    for sense, name in (("outliers let through", "ood_at_tpr_id95"), ("false alarms", None)):
        measure = f"fpr_{name or 'id_at_tpr_ood95'}"
        page.get_by_label("FPR95", exact=True).check()
        page.get_by_label(sense, exact=True).check()
        order = sorted(row, key=lambda method: row[method][measure])
        assert visit.methods() == order
        assert f"FPR95, {sense}" in page.locator("#board caption").inner_text()
        assert (
            f"{100 * row[order[0]][measure]:.1f}" in page.locator("#board tr").nth(2).inner_text()
        )
    assert page.evaluate("document.activeElement.value") == "id"


def test_differences_from_the_best_tell_whether_they_are_significant(visit, made):
    best = descending(means(made[1]))[0]
    pairs = {
        frozenset((row["a"], row["b"])): row["significant"]
        for row in made[1]["comparisons"]
        if (row["run"], row["metric"], row["group"]) == ("net#0", "auroc", "all")
    }
    for method, line in zip(
        visit.methods(), visit.page.locator("#board tbody tr").all(), strict=True
    ):
        if method != best:
            mark = " *" if pairs[frozenset((method, best))] else " ="
            assert line.locator("td").nth(5).inner_text().endswith(mark)


def test_it_switches_methods_and_sets(visit):
    page = visit.page
    page.get_by_label("svhn", exact=True).check()
    assert "on svhn" in page.locator("#roc svg").get_attribute("aria-label")
    assert "svhn: the most OOD-looking" in page.locator("#gallery").inner_text()
    before = page.locator("#histogram path").first.get_attribute("d")
    page.locator("#method-controls select").select_option("msp")
    assert page.locator("#histogram path").first.get_attribute("d") != before
    assert page.locator("#method-text b").inner_text() == "msp"
    page.locator("#board tbody th a").get_by_text("knn", exact=True).click()
    assert page.locator("#method-text b").inner_text() == "knn"
    page.locator("#scatter circle.own").click()
    assert page.locator("#method-text").inner_text().startswith("odin on svhn: AUROC")


def test_it_switches_runs(visit, made):
    page = visit.page
    first = page.locator(".summary:visible").inner_text()
    page.locator("#run").select_option(label="net#1")
    assert visit.methods() == descending(means(made[1], run=1))
    assert visit.methods() != descending(means(made[1], run=0))
    assert page.locator(".summary:visible").count() == 1
    assert page.locator(".summary:visible").inner_text() != first
    assert "Run net#1" in page.locator("#provenance").inner_text()
    assert "Run net#0" not in page.locator("#provenance").inner_text()


def test_the_theme_follows_the_system_and_is_switched(browser, visit, made):
    assert visit.page.evaluate(LUMINANCE) > 200
    visit.page.get_by_role("button", name="Switch to the dark theme").click()
    assert visit.page.evaluate(LUMINANCE) < 60
    visit.page.get_by_role("button", name="Switch to the light theme").click()
    assert visit.page.evaluate(LUMINANCE) > 200
    dark = Visit(browser, made[0], color_scheme="dark")
    assert dark.page.evaluate(LUMINANCE) < 60
    dark.page.emulate_media(media="print")
    assert dark.page.evaluate(LUMINANCE) > 200
    dark.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, made, scheme):
    opened = Visit(browser, made[0], color_scheme=scheme)
    contrasts = opened.page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const light = (name) => {
            const hex = style.getPropertyValue(name).trim().slice(1);
            const part = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
              .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
          };
          const inks = ["ink", "muted", "accent", "known", "unknown", "good", "bad", "warn"];
          return inks.flatMap((ink) => ["page", "card", "faint"].map((ground) => {
            const [a, b] = [light(`--${ink}`), light(`--${ground}`)].sort((x, y) => y - x);
            return [`${ink} on ${ground}`, (a + 0.05) / (b + 0.05)];
          }));
        }"""
    )
    opened.context.close()
    assert [pair for pair in contrasts if pair[1] < 4.5] == []


def test_a_phone_shows_it_without_scrolling_sideways(browser, made):
    phone = Visit(browser, made[0], viewport={"width": 360, "height": 740}, has_touch=True)
    page = phone.page
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((e) =>
          e.getBoundingClientRect().right > 361 && !e.closest(".scroll, nav"))
          .map((e) => e.outerHTML)"""
    )
    assert wide == []
    small = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("p, td, th, li, text, dd, button")]
          .filter((e) => e.textContent.trim() && e.getClientRects().length)
          .map((e) => parseFloat(getComputedStyle(e).fontSize)))"""
    )
    assert small >= 11
    # The names of the methods stay while the figures are moved.
    page.locator("#board .scroll").evaluate("e => { e.scrollLeft = 200; }")
    assert page.locator("#board tbody th").first.bounding_box()["x"] >= 0
    assert phone.complaints == []
    phone.context.close()


def test_names_of_any_kind_do_nothing(browser, tmp_path):
    sets = [(HOSTILE, "near"), ("__proto__", "far")]
    scores = drawn_scores(
        runs=(HOSTILE, "b"), sets=sets, methods=(HOSTILE, "__proto__", "toString")
    )
    record = arena(scores, sets, command=HOSTILE)
    Report.of(record, scores, thumbnails).write(tmp_path / "page.html")
    opened = Visit(browser, tmp_path / "page.html")
    page = opened.page
    page.locator("#method-controls select").select_option(HOSTILE)
    page.get_by_label("__proto__", exact=True).check()
    page.locator("#run").select_option(label="b")
    page.locator("#heat svg").hover()
    assert sorted(opened.methods()) == sorted([HOSTILE, "__proto__", "toString"])
    assert page.locator("img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert opened.complaints == []
    # Even code that got in would not run, nor reach anybody.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='hacked=1'>`)")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in opened.complaints)
    opened.context.close()


def test_without_scripts_the_leaderboard_is_a_table(browser, made):
    opened = Visit(browser, made[0], java_script_enabled=False)
    page = opened.page
    tables = page.locator("table.board:visible")
    assert tables.count() == 2
    rows = tables.first.locator("tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == descending(means(made[1]))
    assert page.locator(".summary:visible").count() == 2
    assert page.locator("#method:visible, #theme:visible").count() == 0
    opened.context.close()


def test_45_methods_on_six_sets_of_26000_images_fit_and_are_made_in_seconds(browser, tmp_path):
    sets = [*SETS, ("mnist", "far"), ("places", "far")]
    methods = [f"method-{number:02}" for number in range(45)]
    scores = drawn_scores(sets=sets, methods=methods, size=26_000)
    few = {
        run: {
            name: {method: values[:100] for method, values in given.items()}
            for name, given in named.items()
        }
        for run, named in scores.items()
    }
    record = arena(few, sets)
    start = time.process_time()
    Report.of(record, scores, thumbnails).write(tmp_path / "page.html")
    assert time.process_time() - start < 45  # Five on an idle machine.
    assert (tmp_path / "page.html").stat().st_size <= 5_000_000
    opened = Visit(browser, tmp_path / "page.html")
    assert len(opened.methods()) == 45
    assert opened.page.locator(".tile").count() == 4 * 8
    assert opened.complaints == []
    opened.context.close()
