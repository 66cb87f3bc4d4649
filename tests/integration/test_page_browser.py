"""The page in a browser, served from an agent whose word is fixed: what is seen, what is done, and what is not run."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Keys

from common.errors import LinkError
from tests.browser import Browser, browser
from tests.deploy.paged import TOKEN, FakeAgent, Served, node, picture, served, stream, worker

pytestmark = pytest.mark.timeout(120)

GREEN, RED = (60, 160, 60), (40, 40, 200)
WIDTHS = (1280, 360)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(autouse=True)
def no_child_left(chromium: Browser) -> None:
    """The browser's processes come and go as it likes; it sees to their end itself."""


@pytest.fixture
def agent(tmp_path: Path) -> FakeAgent:
    return FakeAgent(tmp_path, node(tmp_path))


@pytest.fixture
def page(agent: FakeAgent) -> Iterator[Served]:
    with served(agent, pictures={"door": picture(GREEN), "yard": picture(RED, (180, 320))}) as one:
        yield one


@pytest.fixture
def seen(chromium: Browser, page: Served) -> Iterator[Browser]:
    """The page, open. Nothing on it may complain."""
    chromium.prefer("light")
    chromium.complaints()
    chromium.open(page.url)
    chromium.says("#link-state", "live")
    yield chromium
    found = chromium.complaints()
    chromium.driver.get("about:blank")
    assert not found


def sign_in(seen: Browser, token: str = TOKEN) -> None:
    seen.one("#sign").click()
    seen.type("#token", token)
    seen.press(Keys.ENTER)
    seen.says("#sign", "Sign out")


def card(name: str) -> str:
    return f'.card[aria-labelledby]:has(h3[title="{name}"])'


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_each_stream_says_how_it_is_and_why(seen: Browser) -> None:
    assert [one.text for one in seen.all(".card h3")] == ["door", "yard", "gate", "archive", "garage"]
    states = {name: seen.text(f"{card(name)} .pill") for name in ("door", "yard", "gate", "archive", "garage")}
    assert states == {
        "door": "running", "yard": "source away", "gate": "running", "archive": "ended", "garage": "paused",
    }  # fmt: skip
    seen.says(card("yard"), "Connection refused (for 1 min 14 s)")
    assert "This stream writes lines only." in seen.text(card("gate"))
    assert "Ended 1 h 10 min ago" in seen.text(card("archive"))
    door = seen.text(card("door")).replace("\u202f", " ")
    for words in (
        "rtsp://cam-door.lan/stream1", "1920×1080", "25.0 fps", "23.9 fps", "94 ms", "53 679 frames",
        "annotated 51 234 95.4 %", "skipped 2 310 4.3 %", "lost 2 < 0.1 %", "inference 41 ms", "encode 18 ms",
        "sending · 53 665 frames",
    ):  # fmt: skip
        assert words in door, words
    assert "no answer for 10 s" in seen.text(card("yard"))


def test_the_node_its_workers_and_its_parts(seen: Browser) -> None:
    assert seen.text("#node-name") == "edge-03"
    assert seen.text("#node-state") == "working"
    summary = seen.text("#summary")
    for words in ("2 of 5", "1 in trouble", "94 ms", "95 % under 163 ms", "17", "28 with workers"):
        assert words in summary, words
    assert "no worker serves face" in seen.text("#troubles")
    rows = [one.text.replace("\n", " ") for one in seen.all("#workers tbody tr")]
    assert len(rows) == 2
    for words in ("worker-1", "cuda:0", "11.4 of 16", "52.3", "now"):
        assert words in rows[0], words
    (crashed,) = seen.all("#parts tr[data-tone=bad]")
    for words in ("worker-3", "crash loop", "7", "objects.safetensors is cut off"):
        assert words in crashed.text, words
    assert "8 of 10 run" in seen.text("#parts-count")


def test_it_follows_what_the_node_says(seen: Browser, agent: FakeAgent) -> None:
    said = copy.deepcopy(agent.said)
    said["streams"] = [stream("new", state="starting", states={}, sink={}), said["streams"][0]]
    said["streams"][1].update(state="failing", why="the decoder gave up")
    said["workers"] = [worker(1, state="stuck", beat_age=0.1), worker(2, beat_age=9.0)]
    said.update(ready=False, unready=["broker does not work: port in use"])
    agent.said = said
    seen.says("#node-state", "not ready")
    assert [one.text for one in seen.all(".card h3")] == ["new", "door"]
    assert "the decoder gave up" in seen.text(card("door"))
    assert "port in use" in seen.text("#troubles")
    assert [one.text for one in seen.all("#workers .pill")] == ["stuck", "silent"]
    assert "2 silent or stuck" in seen.text("#summary")


def test_empty_nodes_say_what_to_do(seen: Browser, agent: FakeAgent) -> None:
    agent.said = {**agent.said, "streams": [], "workers": [], "parts": [], "troubles": []}
    seen.says("#no-streams", "Add one here")
    assert "No worker has come" in seen.text("#workers")
    agent.said = {**agent.said, "roles": ["workers"]}
    seen.says("#no-streams", "streams are read on another one")
    assert "The broker, which knows the workers, runs on another node" in seen.text("#workers")
    seen.gone("#add")


def test_a_node_without_the_sink_shows_no_pictures_and_says_so(seen: Browser, agent: FakeAgent) -> None:
    agent.said = {**agent.said, "roles": ["broker", "producers"]}
    seen.says(card("door"), "runs on another node")
    seen.gone("#scale")


def test_what_streams_are_called_is_never_run(seen: Browser, agent: FakeAgent) -> None:
    evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
    said = copy.deepcopy(agent.said)
    bad = stream(evil, source=evil, model=evil, state="away", why=evil, since=5.0, troubles=[evil])
    sent = {"path": evil + "2", "kind": "rtmp", "connected": False, "trouble": evil}
    bad["outputs"] = [{"path": evil, "kind": "ts"}, sent]
    said["streams"] = [bad]
    said["workers"] = [worker(1, name=evil, device=evil, models=[evil], state=evil)]
    said["parts"] = [{**said["parts"][5], "name": evil, "why": evil, "state": evil}]
    said.update(troubles=[evil], unready=[evil], host=evil, run=evil, file=evil)
    said["broker"]["models"] = [evil]
    agent.said = said
    seen.says("#node-name", evil)
    assert seen.text(".card h3") == evil
    assert evil in seen.text("#troubles")
    assert evil in seen.text("#parts")
    assert evil in seen.text("#workers")
    sign_in(seen)
    seen.one(".card-acts button.quiet").click()
    assert evil in seen.text("#remove-title")
    seen.press(Keys.ESCAPE)
    seen.one("#add").click()
    seen.until(lambda: any(evil in one.text for one in seen.all("#add-model option")), "the model's name")
    seen.press(Keys.ESCAPE)
    assert seen.run("return window.pwned") is None
    assert seen.run("return document.querySelectorAll('main img, main script, main iframe').length") == 0


def test_nothing_is_asked_of_anybody_else(seen: Browser, page: Served) -> None:
    seen.one(card("door"))
    loaded = seen.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert len(loaded) > 8
    assert all(one.startswith(page.url) for one in loaded)


# -- pictures ----------------------------------------------------------------------------------------------------------

PIXEL = """
const canvas = document.querySelector(arguments[0] + ' canvas');
const [x, y] = [canvas.width / 2, canvas.height / 2];
return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3), canvas.width, canvas.height];
"""


def test_pictures_are_drawn_in_their_colours_and_shapes(seen: Browser) -> None:
    for name, colour, size in (("door", GREEN, (320, 180)), ("yard", RED, (180, 320))):
        seen.until(lambda name=name: seen.all(f"{card(name)} [data-shows=now]"), f"{name}'s picture")
        *rgb, width, height = seen.run(PIXEL, card(name))
        assert max(abs(a - b) for a, b in zip(rgb, reversed(colour), strict=True)) < 6
        assert (width, height) == size


def test_pictures_that_no_longer_come_are_said_to_be_old(seen: Browser, page: Served) -> None:
    seen.until(lambda: seen.all(f"{card('door')} [data-shows=now]"), "a picture")
    page.call(lambda: page.pictures.pop("door"))
    seen.says(f"{card('door')} .screen", "No new picture")
    assert seen.all(f"{card('door')} [data-shows=old]")


def test_only_what_is_in_view_is_asked_for(chromium: Browser, agent: FakeAgent, page: Served) -> None:
    agent.said["streams"] = [stream(f"cam{number:02}") for number in range(40)]
    chromium.open(page.url, 1280, 700)

    def watched() -> set[str]:
        names: set[str] = set()
        for _, request in agent.asked[-2:]:
            names.update(request["preview"])
        return names

    chromium.until(lambda: "cam00" in watched(), "the first ones are asked for")
    assert len(watched()) <= 9
    chromium.run("document.querySelector('main').scrollIntoView(false)")
    chromium.run("document.querySelectorAll('.card')[39].scrollIntoView()")
    chromium.until(lambda: "cam39" in watched() and "cam00" not in watched(), "the last ones are asked for instead")
    chromium.type("#filter", "cam07")
    chromium.until(lambda: watched() == {"cam07"}, "the one that is left")
    assert chromium.text("#streams-count") == "1 of 40"
    chromium.driver.get("about:blank")


# -- what is done ------------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_told_and_the_right_one_opens(seen: Browser) -> None:
    seen.one("#sign").click()
    seen.press(Keys.ENTER)
    seen.says("#sign-error", "type the token")
    seen.type("#token", "not-the-right-token")
    seen.press(Keys.ENTER)
    seen.says("#sign-error", "this is not the token")
    seen.type("#token", TOKEN)
    seen.press(Keys.ENTER)
    seen.says("#sign", "Sign out")
    seen.gone("#sign-dialog")
    assert seen.run("return document.cookie") == "", "no script sees the cookie"
    seen.driver.refresh()
    seen.says("#sign", "Sign out")
    seen.one("#sign").click()
    seen.says("#sign", "Sign in")


def test_workers_are_scaled(seen: Browser, agent: FakeAgent) -> None:
    assert seen.one("#scale-count").get_attribute("value") == "3"
    button = seen.one("#scale button.main")
    assert not button.is_enabled()
    seen.one("#scale [data-step='1']").click()
    seen.one("#scale [data-step='1']").click()
    button.click()
    seen.type("#token", TOKEN)  # it is asked for when it is needed
    seen.press(Keys.ENTER)
    seen.says("#toasts", "scale is done")
    assert agent.done == [("scale", (5,))]
    agent.said = {**agent.said, "wants": {**agent.said["wants"], "count": 5}}
    agent.fails = LinkError("worker-6 does not start: no room on the GPU")
    seen.type("#scale-count", "6")
    seen.press(Keys.ENTER)
    seen.says("#toasts", "worker-6 does not start: no room on the GPU")
    seen.type("#scale-count", "999")
    assert not seen.one("#scale button.main").is_enabled()


def test_streams_are_paused_resumed_and_removed(seen: Browser, agent: FakeAgent) -> None:
    sign_in(seen)
    seen.one("button[aria-label='Pause door']").click()
    seen.says("#toasts", "pause is done")
    seen.one("button[aria-label='Resume garage']").click()
    seen.says("#toasts", "resume is done")
    seen.one("button[aria-label='Remove yard']").click()
    seen.says("#remove-title", "Remove yard?")
    seen.one("#remove-dialog [data-close]").click()
    seen.gone("#remove-dialog")
    seen.one("button[aria-label='Remove yard']").click()
    seen.one("#remove-dialog button.danger").click()
    seen.says("#toasts", "remove is done")
    assert agent.done == [("pause", ("door",)), ("resume", ("garage",)), ("remove", ("yard", 30.0))]


def test_a_stream_is_added(seen: Browser, agent: FakeAgent, tmp_path: Path) -> None:
    sign_in(seen)
    seen.one("#add").click()
    assert seen.text("#add-base") == str(tmp_path)
    seen.type("#add-source", "missing.mp4")
    seen.one("#add-dialog [type=submit]").click()
    seen.says("#add-error", "name an output")
    seen.type("#add-outputs", "new.ts\nnew.jsonl")
    seen.one("#add-dialog [type=submit]").click()
    seen.says("#add-error", "no such file")
    seen.type("#add-source", "rtsp://cam/7")
    seen.type("#add-name", "seven")
    seen.one("#add-dialog [type=submit]").click()
    seen.says("#toasts", "add is done")
    seen.gone("#add-dialog")
    ((name, ((added,),)),) = agent.done
    assert (name, added.name, added.source, added.mode) == ("add", "seven", "rtsp://cam/7", "live")
    assert [one.path for one in added.outputs] == [str(tmp_path / "new.ts"), str(tmp_path / "new.jsonl")]


def test_a_session_that_is_over_is_asked_for_again(seen: Browser, page: Served, agent: FakeAgent) -> None:
    sign_in(seen)
    for press, done in (("button[aria-label='Pause door']", "pause"), ("#scale button.main", "scale")):
        page.forget()
        if done == "scale":
            seen.one("#scale [data-step='1']").click()
        seen.one(press).click()
        seen.type("#token", TOKEN)
        seen.press(Keys.ENTER)
        seen.says("#toasts", f"{done} is done")
    assert agent.done == [("pause", ("door",)), ("scale", (4,))]


def test_a_node_beyond_loopback_asks_first(chromium: Browser, agent: FakeAgent) -> None:
    with served(agent, "0.0.0.0:0") as page:
        chromium.open(page.url)
        chromium.says("#gate", "Sign in to see this node")
        assert "edge-03" not in chromium.driver.page_source
        chromium.one("#gate-sign").click()
        chromium.type("#token", TOKEN)
        chromium.press(Keys.ENTER)
        chromium.says("#node-name", "edge-03")
        chromium.says("#link-state", "live")
        chromium.one("#sign").click()
        chromium.says("#gate", "Sign in to see this node")
        chromium.gone("#shown")
        chromium.driver.get("about:blank")


def test_a_lost_connection_is_seen_and_comes_back_by_itself(seen: Browser, page: Served, agent: FakeAgent) -> None:
    page.stop()
    seen.says("#lost", "The connection to the node is lost.")
    assert seen.text("#link-state") == "connection lost"
    assert seen.run("return document.body.dataset.stale") == "yes"
    agent.said = {**agent.said, "host": "edge-09"}
    page.start()
    seen.says("#node-name", "edge-09")
    seen.gone("#lost")
    seen.says("#link-state", "live")
    seen.complaints()  # of the time when there was nobody


# -- how it looks ------------------------------------------------------------------------------------------------------

#: Texts whose contrast with what is behind them is below 4.5 : 1 (WCAG 2.2, 1.4.3).
PALE = """
const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const parse = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
function behind(element) {
  const layers = [];
  for (let one = element; one; one = one.parentElement) {
    const colour = parse(getComputedStyle(one).backgroundColor);
    layers.push(colour);
    if (colour[3] === 1) break;
  }
  const over = (under, [r, g, b, a]) => [r, g, b].map((c, at) => c * a + under[at] * (1 - a));
  return layers.reverse().reduce(over, [255, 255, 255]);
}
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
  if (element.closest('.screen, button:disabled')) continue;
  seen++;
  const [one, other] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) found.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return [seen, found];
"""


#: What sticks out of the window.
WIDE = """
const all = [...document.querySelectorAll('body *')].filter((one) => one.checkVisibility());
const shown = all.filter((one) => !one.closest('.unseen, thead, .mono'));
const wide = shown.filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
return wide.map((one) => one.outerHTML.slice(0, 80));
"""
FOCUSED = "const one = document.activeElement; return one.id || one.getAttribute('aria-label') || one.textContent"
NAMED = ("button", "textbox", "searchbox", "combobox", "spinbutton", "dialog", "article", "image")


def assert_fits(seen: Browser, width: int) -> None:
    assert seen.run("return document.documentElement.scrollWidth") <= width
    assert not seen.run(WIDE)
    assert not seen.run(
        "return [...document.querySelectorAll('dialog[open]')].filter(d => d.scrollWidth > d.clientWidth)"
    )
    texts, pale = seen.run(PALE)
    assert texts > 100
    assert not pale


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(seen: Browser, scheme: Any, width: int) -> None:
    """On a phone too, by day and by night; dialogs as well."""
    seen.prefer(scheme)
    seen.size(width, 740)
    assert_fits(seen, width)
    ground = seen.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 150) == (scheme == "dark")
    seen.one("#sign").click()
    seen.type("#token", "nonsense")
    seen.press(Keys.ENTER)
    seen.says("#sign-error", "this is not the token")
    assert_fits(seen, width)
    seen.press(Keys.ESCAPE)
    sign_in(seen)
    for opener in ("#add", "button[aria-label='Remove yard']"):
        seen.run("arguments[0].click()", seen.one(opener))
        assert_fits(seen, width)
        seen.press(Keys.ESCAPE)


def test_everything_can_be_done_with_the_keyboard(seen: Browser) -> None:
    sign_in(seen)
    seen.run("document.querySelector('.skip').focus()")
    reached: list[str] = []
    for _ in range(40):
        seen.press(Keys.TAB)
        reached.append(seen.run(FOCUSED))
        outline = seen.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{reached[-1]} does not show that it has the focus"
        if reached[-1] == "scale-count":
            break
    for one in ("sign", "add", "Pause door", "Remove door", "Resume garage", "One worker less"):
        assert one in reached, reached
    seen.run("document.getElementById('add').focus()")
    seen.press(Keys.ENTER)
    seen.one("#add-dialog")
    assert seen.run("return document.activeElement.closest('dialog')?.id") == "add-dialog"
    seen.press(Keys.ESCAPE)
    seen.gone("#add-dialog")
    assert seen.run("return document.activeElement.id") == "add", "the focus is back where it was"


def test_every_control_has_a_name_and_states_are_told(seen: Browser) -> None:
    nameless = [
        one["role"]["value"]
        for one in seen.tell("Accessibility.getFullAXTree")["nodes"]
        if not one.get("ignored") and one["role"]["value"] in NAMED and not one.get("name", {}).get("value")
    ]
    assert not nameless
    for selector in ("#node-state", "#link-state", "#toasts"):
        assert seen.run("return document.querySelector(arguments[0]).getAttribute('role')", selector) == "status"
    assert seen.run("return document.querySelector('#lost').getAttribute('role')") == "alert"
    assert seen.run("return document.querySelectorAll('h1, h2').length") >= 4
