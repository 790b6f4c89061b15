"""The server's page in a real browser: type, click, see."""

import io
import json
from contextlib import chdir, redirect_stdout

import pytest

from prag_lightning.cli.entry import main
from relay import Relay
from serving import DEMO, QUESTION, Served, make_store

pytestmark = pytest.mark.browser
selenium = pytest.importorskip("selenium")
from selenium.webdriver.common.keys import Keys  # noqa: E402

from browsing import CHROMIUM, DRIVER, Page, chromium  # noqa: E402

SELMA = "Selma Drumkin was born in the year 1960. She worked as a sailor. She grew up in North Dorminster."
HOSTILE = "<img src=x onerror=document.title='taken'>"


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
def said(store):
    """What `prag ask` says to a question."""
    out = io.StringIO()
    with chdir(store), redirect_stdout(out):
        assert main(["ask", QUESTION, "--json", "--store=memory"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def served(store):
    """A server over it."""
    with Served(store, "--store=memory") as served:
        yield served


@pytest.fixture(scope="module")
def browser(store, tmp_path_factory):
    """Chromium."""
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser, served):
    """The page, freshly loaded; nothing is in its console afterwards."""
    page = Page(browser, served.url).ready()
    page.wait(page.rows)
    browser.get_log("browser")
    yield page
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.fixture
def relayed(browser, served):
    """The page through a relay, and that relay."""
    with Relay(served.url) as relay:
        page = Page(browser, relay.url).ready()
        page.wait(page.rows)
        browser.get_log("browser")
        yield page, relay
    assert [entry for entry in browser.get_log("browser") if entry["source"] != "network"] == []


def test_a_question_is_answered_with_what_it_rests_on(page, said):
    assert page.ask(QUESTION) == [said["answer"]] == ["Nordelia"]
    (passage,) = said["passages"]
    summary = page.find(".answer summary")
    assert summary.text == f"helstead.md, line 3, Helstead score {passage['score']:.2f}"
    assert not page.find(".answer details p").is_displayed()
    summary.click()
    assert page.find(".answer details p").text == passage["text"]
    assert page.find(".notes small").text.endswith(" s")


def test_methods_are_compared_side_by_side(page, served):
    answers = page.ask(QUESTION, "compare")
    methods = [card.get_attribute("data-method") for card in page.all(".answer")]
    assert methods == ["vanilla", "icl", "prag", "combine"]
    wanted = [served.ask(method=method)["choices"][0]["message"]["content"] for method in methods]
    assert answers == wanted
    tops = {card.rect["y"] for card in page.all(".answer")}
    assert len(tops) == 1
    with page.phone():
        assert len({card.rect["y"] for card in page.all(".answer")}) == len(methods)
        assert page.too_wide() == 0


def test_a_conversation_goes_on_and_begins_anew(page):
    names_nothing = "And where is it?"
    assert page.ask(QUESTION, "icl") == ["Nordelia"]
    page.find("#anew").click()
    assert page.all("#turns article") == []
    page.ask(names_nothing)
    assert page.all("#turns summary") == []
    assert "No passage was found." in page.find("#turns").text
    page.ask(QUESTION)
    page.ask(names_nothing)
    assert page.find("#turns article:last-child summary").text.startswith("helstead.md")
    assert len(page.all("#turns article")) == 3


HEADS = "Who heads the council of Helstead?"


def test_an_answer_is_seen_while_it_is_written_and_can_be_stopped(relayed):
    page, relay = relayed
    relay.hold()
    page.begin(HEADS)
    page.wait(lambda: page.answers() == ["Nadia"])
    assert page.find(".answer[aria-busy=true]")
    assert not page.find("#send").is_enabled()
    page.find("#stop").click()
    page.wait(lambda: page.find("#send").is_enabled())
    assert page.answers() == ["Nadia"]
    assert page.find(".answer .notes").text == "Stopped."
    assert page.focused().get_attribute("id") == "question"
    assert not page.find("#stop").is_displayed()
    relay.release()
    assert page.ask(HEADS) == ["Nadia Trancott"]


def test_a_new_conversation_begins_while_an_answer_is_written(relayed):
    page, relay = relayed
    relay.hold()
    page.begin(HEADS)
    page.wait(lambda: page.answers() == ["Nadia"])
    page.find("#anew").click()
    assert page.all("#turns article") == []
    relay.release()
    page.ask("And where is it?")
    assert "No passage was found." in page.find("#turns").text  # what was said before is not looked at


def test_an_answer_that_breaks_off_is_told_and_asked_for_again(relayed):
    page, relay = relayed
    relay.hold()
    page.begin(HEADS)
    page.wait(lambda: page.answers() == ["Nadia"])
    relay.cut()
    page.wait(lambda: page.find("#send").is_enabled())
    assert page.find(".answer .bad").text == "The connection broke off."
    assert page.find("#question").get_property("value") == HEADS
    relay.release()
    page.find("#send").click()
    page.wait(lambda: page.answers() == ["Nadia Trancott"])


def test_an_answer_disturbs_nobody_who_types_elsewhere(relayed):
    page, relay = relayed
    page.find("#adding summary").click()
    relay.hold()
    page.begin(HEADS)
    page.find("#title").send_keys("a ti")
    relay.release()
    page.wait(lambda: page.find("#send").is_enabled() and page.answers() == ["Nadia Trancott"])
    page.focused().send_keys("tle")
    assert page.find("#title").get_property("value") == "a title"


def test_a_document_is_added_asked_about_and_forgotten(page):
    page.find("#adding summary").click()
    page.find("#title").send_keys("Selma")
    page.find("#text").send_keys(SELMA)
    page.find("#add button").click()
    page.wait(lambda: any("Selma" in row and "is being encoded" in row for row in page.rows()))
    page.wait(lambda: page.find("#news").text == "Selma: 1 passage")
    assert page.ask("What did Selma Drumkin do for a living?", "prag") == ["sailor"]
    page.find("button[aria-label='Forget Selma']").click()
    page.focused().send_keys(Keys.ESCAPE)
    assert page.focused().text == "Forget"
    page.forget("Selma")
    assert page.find("#news").text == "Selma is forgotten"
    assert page.focused().get_attribute("id") == "documents-title"
    page.find("#anew").click()
    page.ask("What did Selma Drumkin do for a living?")
    assert not any("Selma" in each.text for each in page.all(".answer summary"))


def test_a_file_is_added_and_what_cannot_be_is_told(page, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Zoë".encode("latin-1"))
    (tmp_path / "bruno.txt").write_text("Bruno Cranheim worked as a carpenter.")
    page.find("#adding summary").click()
    page.find("#file").send_keys(str(tmp_path / "latin.txt"))
    page.wait(lambda: page.find("#document-trouble").text.startswith("latin.txt is no text in UTF-8"))
    assert page.find("#text").get_property("value") == ""
    page.find("#file").send_keys(str(tmp_path / "bruno.txt"))
    page.wait(lambda: page.find("#text").get_property("value") == "Bruno Cranheim worked as a carpenter.")
    assert page.find("#document-trouble").text == ""
    assert page.find("#title").get_property("value") == "bruno"
    page.find("#title").send_keys("/")
    page.find("#add button").click()
    page.wait(lambda: page.find("#document-trouble").text.startswith("the id of a document cannot be 'bruno/'"))
    page.browser.get_log("browser")  # has the refusal
    page.find("#title").send_keys(Keys.BACKSPACE)
    page.find("#add button").click()
    page.wait(lambda: any("bruno" in row and "1 passage" in row for row in page.rows()))
    page.forget("bruno")


def test_what_comes_from_the_server_is_text(page, served):
    key = f"../{HOSTILE}"
    body = {"id": key, "title": HOSTILE, "text": f"{HOSTILE} Olga Holbrook was born in Quarmouth."}
    assert served.send("POST", "/v1/documents?wait=60", body)[0] == 200
    page.browser.refresh()
    page.ready().wait(lambda: any(key in row for row in page.rows()))
    page.ask(f"{HOSTILE} Where was Olga Holbrook born?", "icl")
    page.find(".answer summary").click()
    assert HOSTILE in page.find(".answer details p").text
    assert HOSTILE in page.find("#turns h3").text
    page.forget(key)
    assert page.all("main img") == []
    assert page.browser.title == "prag"


def test_a_phone_in_the_dark_and_the_keyboard_alone(page):
    with page.phone("dark"):
        ground = page.browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in ground[4:-1].split(",")) < 60
        page.wait(lambda: page.focused().get_attribute("id") == "question")
        page.focused().send_keys(QUESTION + Keys.ENTER)
        page.wait(lambda: page.find("#send").is_enabled() and page.all(".answer summary"))
        assert page.answers() == ["Nordelia"]
        page.focused().send_keys(Keys.SHIFT + Keys.TAB)  # back to the methods
        assert page.focused().get_attribute("value") == "prag"
        page.focused().send_keys(Keys.ARROW_LEFT)
        assert page.find("input:checked").get_attribute("value") == "icl"
        page.browser.switch_to.active_element.send_keys(Keys.SHIFT + Keys.TAB)
        assert page.focused().tag_name == "summary"
        assert page.browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.focused().send_keys(Keys.ENTER)
        assert page.find(".answer details p").is_displayed()
        named = []
        while (name := page.focused().accessible_name) != "Forget helstead.md":
            assert len(named) < 12, named
            assert name
            named.append(name)
            page.focused().send_keys(Keys.TAB)
        page.focused().send_keys(Keys.ENTER)
        assert page.focused().text == "Really forget?"
        assert page.too_wide() == 0
        page.focused().send_keys(Keys.ESCAPE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read(page, scheme):
    with page.phone(scheme):
        page.ask(QUESTION, "compare")
        page.find(".answer summary").click()
        page.find("#adding summary").click()
        page.browser.execute_script("tell(new Error('something is wrong'))")
        contrasts = page.contrasts()
        assert {"something is wrong", "Nordelia", "Forget", "Ask"} <= {text for _, text in contrasts}
        assert [each for each in contrasts if each[0] < 4.5] == []
        assert page.too_wide() == 0


def test_a_key_is_asked_for_in_words_and_without_a_store_there_are_no_documents(browser, store):
    with Served(store, f"--config={DEMO}", PRAG_API_KEY="sesame") as locked:
        page = Page(browser, locked.url)
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert page.find("#trouble").text == "the API key is missing or wrong"
        page.find("#question").send_keys(QUESTION + Keys.ENTER)  # stays typed, and the key is asked for
        page.wait(lambda: page.focused().get_attribute("id") == "key")
        page.find("#key").send_keys("wrong" + Keys.ENTER)
        page.wait(lambda: browser.execute_script("return sessionStorage.getItem('prag-key')") == "wrong")
        page.wait(lambda: page.find("#trouble").text == "the API key is missing or wrong")
        assert page.all("input[name=method]") == []
        page.find("#key").send_keys("sesame" + Keys.ENTER)
        page.ready()
        assert not page.find("#key-form").is_displayed()
        browser.refresh()  # the key is known until the tab is closed
        page.ready()
        assert page.ask(QUESTION, "icl") == ["Nordelia"]
        assert not page.find("#documents").is_displayed()
        locked.end()
        page.begin(QUESTION)
        page.wait(lambda: page.find("#send").is_enabled() and page.all("#turns article:last-child .bad"))
        assert page.find("#turns article:last-child .bad").text == "The server cannot be reached."
    logged = browser.get_log("browser")
    assert all(entry["source"] == "network" for entry in logged), logged
