"""The triage page in a real browser: listed, marked by key, exported, and read back."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_triage import items

from gradood.data import list_images
from gradood.triage import Details, PageOptions, read_marks, review_sample, write_page

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, which gradood[test] brings"
)
HOSTILE = '</script><img src=x onerror="window.hacked=1"><b>\'&"'


@pytest.fixture
def tab() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium, which is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(5000)
        yield page
        browser.close()


def test_items_are_listed_marked_by_key_and_exported(tab, tmp_path: Path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.png")
    names = ["a.png", "=cmd", "'quoted", HOSTILE, "__proto__", "known", "broken"]
    one = items([0.001] * 5 + [0.9, float("nan")], names)
    one = replace(one, status=["ok"] * 6 + ["broken"], errors={"broken": HOSTILE})
    details = Details({}, {HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE]})
    file, sample = tmp_path / "page.html", review_sample(names[:6], 6, 0, one.job)
    images = list_images(str(tmp_path))
    write_page(file, one, sample, details, images, PageOptions(title=HOSTILE, classes=(HOSTILE,)))
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    cards = tab.locator(".card")
    assert cards.count() == 5 and tab.locator("h1").inner_text() == HOSTILE
    assert (
        tab.locator(".picture.sheet-0")
        .first.evaluate("e => getComputedStyle(e).backgroundImage")
        .startswith('url("data:image/jpeg')
    )
    cards.nth(1).focus()  # As what reads the page aloud does.
    order = cards.evaluate_all("all => all.map((e) => e.ariaLabel)")
    for key in "2313":
        tab.keyboard.press(key)
    tab.locator('input[name="filter"][value="unsure"]').check(force=True)
    assert cards.count() == 2
    tab.locator('input[name="view"][value="sample"]').check(force=True)
    assert "p 0" not in tab.locator("#list").inner_text()
    tab.locator('input[name="filter"][value="all"]').check(force=True)
    tab.locator('input[name="view"][value="unscored"]').check(force=True)
    assert cards.count() == 1 and tab.locator(".marks, .whole button").count() == 0
    assert f"Not scored: broken ({HOSTILE})" in tab.locator("#detail").inner_text()
    tab.keyboard.press("1")
    tab.locator("h1").click()
    with tab.expect_download() as download:
        tab.keyboard.press("e")
    download.value.save_as(tmp_path / "marks.csv")
    found = {name: mark.mark for name, mark in read_marks(tmp_path / "marks.csv", one.job).items()}
    assert found == dict(zip(order[1:], ("unknown", "unsure", "known", "unsure"), strict=True))
    tab.reload()
    assert "marked: 1 known, 1 unknown, 2 unsure" in tab.locator("#note").inner_text()
    assert complaints == [] and tab.evaluate("() => window.hacked") is None
