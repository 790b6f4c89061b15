"""Chromium, and the server's page as a person uses it there."""

import shutil
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_QUIET = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
_CONTRASTS = """
const channel = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
const parts = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => {
  const [red, green, blue] = parts(color).map(channel);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ground = (element) => {
  const color = getComputedStyle(element).backgroundColor;
  return parts(color)[3] === 0 ? ground(element.parentElement) : color;
};
const written = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
const seen = [...document.querySelectorAll("main *")].filter((each) => written(each) && each.checkVisibility());
return seen.map((each) => {
  const [low, high] = [getComputedStyle(each).color, ground(each)].map(light).sort((one, other) => one - other);
  return [(high + 0.05) / (low + 0.05), each.textContent];
});
"""


def chromium(folder: Path) -> webdriver.Chrome:
    """Start it, with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*_QUIET, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


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
        self.begin(question)
        self.wait(lambda: self.find("#send").is_enabled())
        return self.answers()

    def begin(self, question: str) -> None:
        """Ask a question, without waiting for what is answered."""
        self.find("#question").clear()
        self.find("#question").send_keys(question)
        self.find("#send").click()

    def answers(self) -> list[str]:
        """What has been answered to the last question so far."""
        return [each.text for each in self.all("#turns article:last-child .answer .text")]

    def rows(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#held tr')].map(row => row.innerText)"
        )

    @contextmanager
    def phone(self, scheme: str = "light"):
        """A screen of 390 pixels."""
        metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        try:
            yield
        finally:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def focused(self):
        return self.browser.switch_to.active_element

    def forget(self, name: str) -> None:
        """Forget a document, and see it gone."""
        (button,) = [each for each in self.all("#held button") if name in each.get_attribute("aria-label")]
        button.click()
        assert button.text == "Really forget?"
        assert button.accessible_name.startswith("Really forget?")
        button.click()
        self.wait(lambda: not any(name in row for row in self.rows()))

    def too_wide(self) -> int:
        return self.browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def contrasts(self) -> list[tuple[float, str]]:
        """How each text that is seen stands out from what is behind it, as WCAG counts it."""
        return [tuple(each) for each in self.browser.execute_script(_CONTRASTS)]
