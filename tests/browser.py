"""A headless Chromium, for tests of the page: what a person would see and do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self

import psutil
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support import wait_for

DRIVER, BROWSER = "/usr/bin/chromedriver", "/usr/bin/chromium"
#: Whatever is waited for is there after so many seconds, or will never be.
SOON_S = 20.0
_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """``driver`` is Selenium's."""

    def __init__(self) -> None:
        options = ChromeOptions()
        options.binary_location = BROWSER
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=Service(DRIVER))
        self.driver.set_page_load_timeout(SOON_S)

    def open(self, url: str, width: int = 1280, height: int = 900) -> Self:
        self.size(width, height)
        self.driver.delete_all_cookies()
        self.driver.get(url)
        return self

    def close(self) -> None:
        self.driver.quit()

    def size(self, width: int, height: int) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: Literal["light", "dark"], motion: Literal["reduce", "no-preference"] = "reduce") -> None:
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        self.tell("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in wanted.items()])

    def tell(self, command: str, **arguments: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first that is shown."""
        return self.until(lambda: next((one for one in self.all(selector) if one.is_displayed()), None), selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def says(self, selector: str, text: str) -> None:
        """Wait until what is shown there holds ``text``."""
        self.until(
            lambda: any(text in one.text for one in self.all(selector) if one.is_displayed()), f"{selector}: {text!r}"
        )

    def gone(self, selector: str) -> None:
        self.until(lambda: not any(one.is_displayed() for one in self.all(selector)), f"no {selector}")

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def type(self, selector: str, text: str) -> None:
        field = self.one(selector)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        def look() -> Any:
            try:
                return condition()
            except StaleElementReferenceException:
                return None

        return wait_for(look, SOON_S, what)

    def complaints(self) -> list[str]:
        """What the console says that is wrong; requests that failed on purpose are none."""
        return [
            one["message"] for one in self.driver.get_log("browser") if "Failed to load resource" not in one["message"]
        ]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """None of its processes stays."""
    before = set(psutil.Process(os.getpid()).children(recursive=True))
    one = Browser()
    try:
        yield one
    finally:
        mine = [child for child in psutil.Process(os.getpid()).children(recursive=True) if child not in before]
        one.close()
        _, left = psutil.wait_procs(mine, timeout=10)
        for process in left:
            process.kill()
