"""The report page and a gallery in a real browser: headless Chromium, driven by chromedriver."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rrsis_bench.data.formats import open_split
from rrsis_bench.eval.counts import CountsTable, count_pixels
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.record import store
from rrsis_bench.results.render import gallery, page
from tests.fakes.records import put, record_of

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no browser: needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory, fake_root) -> Path:
    """A page of two datasets with printed figures, and a gallery."""
    root = tmp_path_factory.mktemp("site")
    for index, (model, quality) in enumerate((("lavt", 0.3), ("fianet", 0.9), ("csinet", 0.6))):
        put(root, model=model, quality=quality, train_hash=f"{index}" * 64, table_seed=index)
    put(root, model="rmsin", data="rrsisd", train_hash="7" * 64)
    printed = [
        PublishedRow("fianet", "Table IV", "rrsisd", split, "LAVT", "Swin-B", "BERT", {"miou": 57.16}, "", "")
        for split in ("val", "test")
    ]
    rows = rank(store.read_all(root), root)
    (root / page.INDEX).write_bytes(page.render(rows, {"rrsisd": printed}))

    dataset, table, preds = open_split("rrsisd", fake_root, "test"), CountsTable(), {}
    for index in range(len(dataset)):
        target_HW = dataset[index].read_mask()
        preds[index] = np.roll(target_HW, 3 * index, axis=1)
        table.add(count_pixels(dataset[index], preds[index], target_HW))
    gallery.write(root / gallery.NAME, record_of(table), table, dataset, lambda chosen: {i: preds[i] for i in chosen})
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # Chromium's sandbox does not run as root, and containers have a small /dev/shm.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def models(browser) -> list[str]:
    return [cell.text for cell in browser.find_elements("css selector", "#b1-ranked td.model")]


def visible(browser, selector: str) -> int:
    return sum(element.is_displayed() for element in browser.find_elements("css selector", selector))


def open_page(browser, path: Path) -> None:
    browser.get_log("performance")
    browser.get("about:blank")
    browser.get(path.as_uri())


def assert_quiet(browser, path: Path) -> None:
    """No console message, no image that did not load, no request but the page itself and what it carries."""
    assert browser.get_log("browser") == []
    widths = browser.execute_script("return Array.from(document.images, image => image.complete && image.naturalWidth)")
    assert all(widths)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert path.as_uri() in {url.partition("#")[0] for url in asked}
    assert [url for url in asked if not url.startswith(("data:", "about:", path.as_uri()))] == []


def test_the_page_sorts_filters_and_asks_for_nothing(site, browser):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    path = site / page.INDEX
    open_page(browser, path)
    by_rank = models(browser)
    assert sorted(by_rank) == ["csinet", "fianet", "lavt"]
    heads = browser.find_elements("css selector", "#b1-ranked th")
    head = next(entry for entry in heads if entry.text.startswith("mIoU"))
    button = head.find_element("css selector", "button")
    button.click()
    assert (models(browser), head.get_attribute("aria-sort")) == (["fianet", "csinet", "lavt"], "descending")
    button.send_keys(Keys.ENTER)
    assert (models(browser), head.get_attribute("aria-sort")) == (["lavt", "csinet", "fianet"], "ascending")
    assert visible(browser, "#b1-ranked th[aria-sort]") == 1
    next(entry for entry in heads if entry.text.startswith("Model")).find_element("css selector", "button").click()
    assert models(browser) == ["csinet", "fianet", "lavt"]

    assert (visible(browser, ".board"), visible(browser, ".printed tbody tr")) == (2, 2)
    Select(browser.find_element("id", "f-data")).select_by_visible_text("synthetic")
    assert (visible(browser, ".board"), visible(browser, ".printed")) == (1, 0)
    assert browser.find_element("id", "shown").text == "1 board, 0 printed tables"
    Select(browser.find_element("id", "f-data")).select_by_visible_text("rrsisd")
    Select(browser.find_element("id", "f-split")).select_by_visible_text("val")
    assert (visible(browser, ".board"), visible(browser, ".printed tbody tr")) == (0, 1)
    Select(browser.find_element("id", "f-data")).select_by_visible_text("synthetic")
    assert browser.find_element("id", "none").is_displayed()
    assert_quiet(browser, path)


def test_the_keyboard_reaches_the_content_and_the_theme(site, browser):
    from selenium.webdriver.common.keys import Keys

    open_page(browser, site / page.INDEX)
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    theme = browser.find_element("id", "theme")
    grounds = []
    for _ in range(3):
        theme.send_keys(Keys.ENTER)
        grounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert theme.text == "Theme: auto"
    assert grounds[0] != grounds[1], "light, then dark"


def test_no_page_is_wider_than_a_phone(site, browser):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in (page.INDEX, gallery.NAME):
            open_page(browser, site / name)
            assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_gallery_shows_its_pictures_and_asks_for_nothing(site, browser):
    path = site / gallery.NAME
    open_page(browser, path)
    assert visible(browser, "img") >= 9
    assert_quiet(browser, path)
