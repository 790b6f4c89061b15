"""The server's page in a real browser: type, click, see."""

import shutil
from pathlib import Path

import pytest

from serving import QUESTION, Served, make_store

pytestmark = pytest.mark.browser
selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

ROOT = Path(__file__).parent.parent
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SELMA = "Selma Drumkin was born in the year 1960. She worked as a sailor. She grew up in North Dorminster."
HOSTILE = "<img src=x onerror=document.title='taken'>"
QUIET = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a store of one document."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium with its driver")
    folder = tmp_path_factory.mktemp("page")
    (folder / "helstead.md").write_text(
        "# Helstead\n\nNadia Trancott heads the council of Helstead. It belongs to Nordelia."
    )
    make_store(folder, "helstead.md")
    return folder


@pytest.fixture(scope="module")
def served(store):
    """A server over it."""
    with Served(store, "--store=memory") as served:
        yield served


@pytest.fixture(scope="module")
def browser(store, tmp_path_factory):
    """Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page, as a person uses it."""

    def __init__(self, browser, url: str) -> None:
        self.browser = browser
        browser.set_window_size(1100, 900)
        browser.get(url)

    def find(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, until, seconds: float = 30):
        return WebDriverWait(self.browser, seconds, 0.05).until(lambda _: until())

    def ready(self) -> "Page":
        self.wait(lambda: self.all("input[name=method]"))
        return self

    def ask(self, question: str, method: str | None = None) -> list[str]:
        """The answers to a question, when all are there."""
        if method is not None:
            self.find(f"input[value={method}]").click()
        self.find("#question").send_keys(question)
        self.find("#send").click()
        self.wait(lambda: self.find("#send").is_enabled())
        return [each.text for each in self.all("#turns article:last-child .answer .text")]

    def rows(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#held tr')].map(row => row.innerText)"
        )

    def too_wide(self) -> int:
        return self.browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


@pytest.fixture
def page(browser, served):
    """The page, freshly loaded; nothing is in its console afterwards."""
    page = Page(browser, served.url).ready()
    browser.get_log("browser")
    yield page
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_question_is_answered_with_what_it_rests_on(page, served):
    assert page.ask(QUESTION) == [served.ask()["choices"][0]["message"]["content"]] == ["Nordelia"]
    assert page.find(".answer summary").text.startswith("helstead.md, line 3")
    assert not page.find(".answer details p").is_displayed()
    page.find(".answer summary").click()
    assert "Nadia Trancott heads the council" in page.find(".answer details p").text


def test_methods_are_compared_side_by_side(page, served):
    answers = page.ask(QUESTION, "compare")
    methods = [card.get_attribute("data-method") for card in page.all(".answer")]
    assert methods == ["vanilla", "icl", "prag", "combine"]
    wanted = [served.ask(method=method)["choices"][0]["message"]["content"] for method in methods]
    assert answers == wanted
    tops = {card.rect["y"] for card in page.all(".answer")}
    assert len(tops) == 1
    page.browser.set_window_size(500, 900)
    page.wait(lambda: len({card.rect["y"] for card in page.all(".answer")}) > 1)
    assert page.too_wide() == 0


def test_a_conversation_goes_on_and_begins_anew(page):
    assert page.ask(QUESTION, "icl") == ["Nordelia"]
    page.ask("And who heads its council?")
    assert page.find("#turns article:last-child summary").text.startswith("helstead.md")
    assert len(page.all("#turns article")) == 2
    page.find("#anew").click()
    assert page.all("#turns article") == []


def test_a_document_is_added_asked_about_and_forgotten(page):
    page.find("#adding summary").click()
    page.find("#title").send_keys("Selma")
    page.find("#text").send_keys(SELMA)
    page.find("#add button").click()
    page.wait(lambda: any("Selma" in row and "1 passages" in row for row in page.rows()))
    assert page.ask("What did Selma Drumkin do for a living?", "prag") == ["sailor"]
    forget = page.find("button[aria-label='Forget Selma']")
    forget.click()
    assert forget.text == "Really forget?"
    forget.click()
    page.wait(lambda: not any("Selma" in row for row in page.rows()))
    page.find("#anew").click()
    page.ask("What did Selma Drumkin do for a living?")
    assert not any("Selma" in each.text for each in page.all(".answer summary"))


def test_what_comes_from_the_server_is_text(page, served):
    body = {"id": HOSTILE, "title": HOSTILE, "text": f"{HOSTILE} Olga Holbrook was born in Quarmouth."}
    assert served.send("POST", "/v1/documents?wait=60", body)[0] == 200
    try:
        page.browser.refresh()
        page.ready()
        page.wait(lambda: any(HOSTILE in row for row in page.rows()))
        page.ask("Where was Olga Holbrook born?", "icl")
        page.find(".answer summary").click()
        assert HOSTILE in page.find(".answer details p").text
        assert page.all("main img") == []
        assert page.browser.title == "prag"
    finally:
        (button,) = [each for each in page.all("#held button") if HOSTILE in each.get_attribute("aria-label")]
        button.click()
        button.click()
        page.wait(lambda: not any(HOSTILE in row for row in page.rows()))


def test_a_phone_in_the_dark_and_the_keyboard_alone(page):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        ground = page.browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in ground[4:-1].split(",")) < 60
        page.wait(lambda: page.browser.switch_to.active_element.get_attribute("id") == "question")
        page.browser.switch_to.active_element.send_keys(QUESTION + Keys.ENTER)
        page.wait(lambda: page.find("#send").is_enabled() and page.all(".answer summary"))
        assert page.find(".answer .text").text == "Nordelia"
        assert page.too_wide() == 0
        seen = []
        for _ in range(12):
            page.browser.switch_to.active_element.send_keys(Keys.TAB)
            seen.append(page.browser.switch_to.active_element.tag_name)
        assert {"button", "summary"} <= set(seen)
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_key_is_asked_for_in_words(browser, store):
    with Served(store, "--store=memory", PRAG_API_KEY="sesame") as locked:
        page = Page(browser, locked.url)
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert page.find("#trouble").text == "the API key is missing or wrong"
        page.find("#key").send_keys("sesame" + Keys.ENTER)
        page.ready()
        assert page.ask(QUESTION) == ["Nordelia"]
        locked.end()
        page.find("#question").send_keys(QUESTION + Keys.ENTER)
        page.wait(lambda: page.find("#send").is_enabled() and page.all("#turns article:last-child .bad"))
        assert page.find("#turns article:last-child .bad").text == "The server cannot be reached."
    browser.get_log("browser")
