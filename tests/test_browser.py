"""The look-alike report as a person meets it: opened from its folder in a real Chromium.

`make test-browser` installs what it takes; without it these tests are skipped.
"""

import importlib.resources
import itertools
import json
import os
import pathlib
import shutil
import urllib.parse
from collections.abc import Callable, Iterator

import albums
import pytest
from albums import Seen

from celebface.pipelines import cli
from celebface.pipelines.text import escaped

PEOPLE = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Fay", "Pen\u00e9lope"]
PHOTOS = 150  # three pages
WIDE, NARROW = (1280, 900), (390, 844)


def missing(what: str) -> None:
    if os.environ.get("CELEBFACE_BROWSER"):
        pytest.fail(f"{what} is missing, though CELEBFACE_BROWSER wants these tests to run")
    pytest.skip(f"{what} is missing: make test-browser installs it and runs these tests")


@pytest.fixture(scope="module")
def driver() -> Iterator:
    try:
        from selenium import webdriver
    except ModuleNotFoundError:
        missing("selenium")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        if not path:
            missing(name)
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    yield browser
    browser.quit()


class Page:
    """A report in the browser, and what a person does with it."""

    def __init__(self, driver, folder: pathlib.Path):
        self.driver = driver
        self.folder = folder

    def open(self, address: str = "") -> "Page":
        """Opens the page anew, as somebody does who follows a link to it."""
        self.driver.get("about:blank")
        self.driver.get(f"{(self.folder / 'index.html').as_uri()}{address}")
        self.until(lambda: self.run("return document.getElementById('status').textContent") or self.view != "faces")
        return self

    def until(self, condition: Callable[[], object]) -> object:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 10, poll_frequency=0.02).until(lambda _: condition())

    def until_closed(self) -> None:
        """Until no face is open: the address follows the dialog, a moment later."""
        open_ = "return document.getElementById('detail').open"
        self.until(lambda: not self.run(open_) and "photo=" not in self.address)

    def run(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)", selector)

    def press(self, keys: str) -> None:
        """Presses keys of the keyboard: whoever has the focus gets them, also while a dialog closes."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def shows(self, selector: str, texts: list[str]) -> None:
        """Waits until these are the texts of some elements."""
        try:
            self.until(lambda: self.texts(selector) == texts)
        finally:
            assert self.texts(selector) == texts

    @property
    def view(self) -> str:
        return self.run("return new URLSearchParams(location.hash.slice(1)).get('view') ?? 'faces'")

    @property
    def address(self) -> str:
        return self.run("return location.hash")

    @property
    def focused(self) -> str:
        return self.run(
            "return document.activeElement.closest('[data-face]')?.dataset.face ?? document.activeElement.id"
        )

    def unloaded(self) -> list[str]:
        """Pictures that are shown and do not load, after all had the time to."""
        self.run("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
        self.until(lambda: self.run("return [...document.images].every(image => image.complete)"))
        return self.run("return [...document.images].filter(each => !each.naturalWidth).map(each => each.src)")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> pathlib.Path:
    """The report of an album of three pages, some photos of which gave no face."""
    folder = tmp_path_factory.mktemp("browser")
    gallery = albums.write_gallery(folder / "v1", PEOPLE)
    both = [
        Seen("/album/group.jpg", [("Eve", 0.3), ("Ann", 1.2)], (40, 60, 200, 260)),
        Seen("/album/group.jpg", [("Fay", 0.35), ("Ann", 1.2)], (300, 60, 460, 260)),
    ]
    left_out = [(f"/album/empty {number}.jpg", "no_face", "") for number in range(3)] + [
        ("/album/notes.txt", "not_an_image", "it begins with 'Dear'")
    ]
    results = albums.write_results(
        folder / "matches", [*albums.an_album(PEOPLE, PHOTOS), *both], gallery, left_out=left_out
    )
    assert cli.main(["report", str(results)]) == 0
    return results / "report"


@pytest.fixture
def page(driver, report) -> Iterator[Page]:
    """The report; whatever a test does with it, nothing may go wrong and nothing be asked for elsewhere."""
    for log in ("browser", "performance"):
        driver.get_log(log)  # what was before
    yield Page(driver, report)
    check_logs(driver, report)


def check_logs(driver, report: pathlib.Path) -> None:
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}
    own = f"{report.as_uri()}/"
    assert asked and {url for url in asked if not url.startswith(own)} <= {"about:blank"}


def names(page: Page) -> list[str]:
    return page.texts("#cards h3")


def test_it_opens_with_the_most_alike_and_their_pictures(page):
    page.open()
    page.shows("#status", ["152 faces, 1 to 60"])
    assert len(names(page)) == 60 and names(page)[:3] == ["Ann", "Bob", "Cleo"]
    assert page.unloaded() == []
    first = page.find("#cards li")
    pair = [image.get_attribute("alt") for image in first.find_elements("css selector", ".pair img")]
    assert pair == ["Face 1 of photo 0000.jpg", "Ann"]
    assert first.find_element("css selector", ".alike").text == "99 %"
    assert first.find_element("css selector", ".facts").text == "match D 0.10"
    assert len(first.find_elements("css selector", ".others img")) == 4
    assert page.texts("#cards li:first-child .others .name") == ["Bob", "Cleo", "Dan", "Eve"]


def test_a_search_finds_names_and_photos_however_they_are_written(page):
    page.open()
    page.press("/")
    assert page.focused == "search"
    page.press("penelope")
    page.shows("#status", [f"{PHOTOS // len(PEOPLE)} faces"])
    assert set(names(page)) == {"Pen\u00e9lope"}
    page.press(" 0006")
    page.shows("#cards .path", ["photo 0006.jpg"])
    assert page.address == "#q=penelope+0006"
    page.press("x")
    page.shows("#status", ["No face is like that."])
    page.press("\ue00c")  # Escape
    page.shows("#status", ["152 faces, 1 to 60"])
    assert page.address == "" and page.focused != "search"


def test_filters_by_verdict_person_and_similarity(page):
    page.open()
    verdicts = page.find("#verdicts")
    counts = verdicts.text
    assert "match (" in counts and "ambiguous (0)" in counts
    for name in ("match", "ambiguous"):
        page.find(f"#verdicts input[value={name}]").click()
    page.until(lambda: set(page.texts("#cards .facts .verdict")) == {"look-alike"})
    assert page.address == "#verdict=lookalike"
    page.find("#people-choice option:nth-child(2)").click()
    page.until(lambda: len(set(names(page))) == 1)
    assert "person=" in page.address and not page.find("#person").get_attribute("hidden")
    page.find("#reset").click()
    page.shows("#status", ["152 faces, 1 to 60"])
    page.run(
        "const least = document.getElementById('least'); least.value = 99; least.dispatchEvent(new Event('input'))"
    )
    page.until(lambda: page.find("#least-shown").text == "99 %")
    page.until(lambda: set(page.texts("#cards .alike")) == {"99 %"})
    assert page.address == "#least=99"


@pytest.mark.parametrize(
    ("sort", "first"),
    [("unlike", "photo 0149.jpg"), ("name", "photo 0000.jpg"), ("photo", "group.jpg · face 1 of 2")],
)
def test_sorting(page, sort, first):
    page.open()
    page.find(f"#sort option[value={sort}]").click()
    page.until(lambda: page.texts("#cards .path")[0] == first)
    if sort == "name":
        page.until(lambda: names(page)[:20] == ["Ann"] * 20)
    assert page.address == f"#sort={sort}"


def test_pages_and_the_way_back(page):
    page.open()
    page.find("#pager a[rel=next]").click()
    page.shows("#status", ["152 faces, 61 to 120"])
    page.press("n")
    page.shows("#status", ["152 faces, 121 to 152"])
    assert len(names(page)) == 32 and page.texts("#pager a[href]") == ["First", "Previous"]
    page.driver.back()
    page.shows("#status", ["152 faces, 61 to 120"])
    page.press("p")
    page.shows("#status", ["152 faces, 1 to 60"])
    assert page.texts("#pager a[href]") == ["Next", "Last"]


def test_a_face_is_opened_by_keys_with_the_whole_photo_and_its_boxes(page):
    page.open("#q=group")
    page.shows("#status", ["2 faces"])
    page.press("j")
    page.press("j")
    assert page.texts("#cards li:nth-child(2) h3") == ["Fay"]
    page.press("\ue007")  # Enter
    page.until(lambda: page.run("return document.getElementById('detail').open"))
    assert page.address == "#q=group&photo=group.jpg&face=2"
    assert page.texts("#detail h2") == ["Face 2 of 2 group.jpg"]
    boxes = page.run(
        "return [...document.querySelectorAll('#detail .photo a')].map(a => [a.getAttribute('aria-label'),"
        " a.getAttribute('aria-current'), ...['x', 'y', 'width', 'height'].map(n => a.lastChild.getAttribute(n))])"
    )
    assert boxes == [
        ["Face 1: Eve", None, "40", "60", "160", "200"],
        ["Face 2: Fay", "true", "300", "60", "160", "200"],
    ]
    assert page.run("return document.querySelector('#detail .photo svg').getAttribute('viewBox')") == "0 0 640 480"
    assert page.texts("#detail .ranks .name") == ["Fay", "Ann"]
    assert page.unloaded() == []
    page.press("k")
    page.shows("#detail h2", ["Face 1 of 2 group.jpg"])
    page.press("\ue00c")
    page.until_closed()
    assert page.address == "#q=group"
    page.until(lambda: page.texts("[data-face]:focus-within h3") == ["Eve"])


def test_boxes_lie_on_the_faces(page):
    page.open("#photo=group.jpg&face=1")
    page.until(lambda: page.texts("#detail h2"))
    assert page.unloaded() == []
    photo, box = (
        page.run(
            "return Object.assign({}, document.querySelector(arguments[0]).getBoundingClientRect().toJSON())", each
        )
        for each in ("#detail .photo img", "#detail .photo rect")
    )
    assert photo["width"] / photo["height"] == pytest.approx(4 / 3, abs=0.01)
    assert (box["x"] - photo["x"]) / photo["width"] == pytest.approx(40 / 640, abs=0.01)
    assert (box["y"] - photo["y"]) / photo["height"] == pytest.approx(60 / 480, abs=0.01)
    assert box["width"] / photo["width"] == pytest.approx(160 / 640, abs=0.02)


def test_links_lead_to_what_they_name(page):
    page.open("#q=photo&sort=photo&page=2&photo=photo+0003.jpg")
    page.until(lambda: page.texts("#detail h2") == ["Face photo 0003.jpg"])
    page.shows("#status", ["150 faces, 61 to 120"])
    assert page.find("#search").get_attribute("value") == "photo"
    page.open("#photo=nobody.jpg&face=7&page=99&sort=what&least=x&verdict=none")
    page.shows("#status", ["No face is like that."])
    assert not page.run("return document.getElementById('detail').open")
    page.open("#view=album")
    page.until(lambda: page.texts("#album h3"))
    page.open("#person=nobody")
    page.shows("#status", ["No face is like that."])


def test_links_that_nobody_made_lead_to_the_faces(page):
    page.open("#sort=constructor&view=toString")
    page.shows("#status", ["152 faces, 1 to 60"])


def test_going_back_does_not_open_again_what_was_closed(page):
    page.open("#q=group")
    page.shows("#status", ["2 faces"])
    for _ in range(2):
        page.press("j")
        page.press("\ue007")  # Enter
        page.until(lambda: page.run("return document.getElementById('detail').open"))
        page.press("\ue00c")  # Escape
        page.until_closed()
    page.driver.back()
    page.shows("#status", ["2 faces"])
    assert page.address == "#q=group" and not page.run("return document.getElementById('detail').open")


def test_all_who_look_like_a_person(page):
    page.open()
    page.find("#cards h3 a").click()
    page.until(lambda: set(names(page)) == {"Ann"})
    assert page.texts("#faces-title") == ["Who looks like Ann?"] and page.driver.title == "Who looks like Ann?"
    assert page.find("#person img").get_attribute("alt") == "Ann"
    assert page.unloaded() == []
    page.driver.back()
    page.shows("#status", ["152 faces, 1 to 60"])
    page.find("nav [data-view=people]").click()
    page.shows("#people-status", ["7 people"])
    assert page.unloaded() == []
    page.press("/")
    page.press("fay")
    page.shows("#people-cards .name", ["Fay"])
    page.find("#people-cards a").click()
    page.until(lambda: set(names(page)) == {"Fay"})


def test_the_album_as_a_whole(page):
    page.open("#view=album")
    page.until(lambda: page.texts("#album h3"))
    assert page.texts(".tiles li")[:3] == ["155 photos", "151 with faces", "152 faces"]
    assert page.texts(".bars .name")[0] == "Ann" and len(page.texts(".bars li")) == 7
    assert page.texts(".chart .tau-text") == ["tau 0.9"]
    assert "are within tau 0.9" in page.find(".chart svg").get_attribute("aria-label")
    assert page.texts(".left-out > li > p") == ["3 items rejected: no face found", "1 item rejected: not an image"]
    assert len(page.run("return [...document.querySelectorAll('.left-out img')]")) == 3
    assert "A look-alike is not an identification" in page.find("#album").text
    assert page.unloaded() == []
    page.find(".bars a").click()
    page.until(lambda: set(names(page)) == {"Ann"})


def test_help_and_keys_that_can_be_turned_off(page):
    page.open()
    page.press("?")
    assert page.run("return document.getElementById('help').open")
    page.find("#letters").click()
    page.press("\ue00c")
    page.until(lambda: not page.run("return document.getElementById('help').open"))
    page.press("n")
    page.press("\ue014")  # the right arrow still works
    page.until(lambda: page.focused == page.find("#cards li").get_attribute("data-face"))
    assert page.texts("#status") == ["152 faces, 1 to 60"]


# --- for everybody ----------------------------------------------------------------------------------------------------


def resize(page: Page, size: tuple[int, int], dark: bool) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


PLACES = {
    "faces": ("", "#cards li"),
    "person": ("#person={ann}", "#person img"),
    "face": ("#photo=group.jpg&face=2", "#detail h2"),
    "people": ("#view=people", "#people-cards li"),
    "album": ("#view=album", "#album h3"),
}


@pytest.fixture
def sized(page) -> Iterator[Callable]:
    yield lambda size, dark: resize(page, size, dark)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def go_to(page: Page, place: str) -> None:
    from fakes import person

    address, selector = PLACES[place]
    page.open(address.format(ann=person("Ann").identity_id))
    page.until(lambda: page.run("return document.querySelector(arguments[0])", selector))


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, which checks contrast, names, roles and the like."""
    place = os.environ.get("CELEBFACE_AXE")
    return (pathlib.Path(place) if place else importlib.resources.files("axe_core_python") / "axe.min.js").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing(page, axe, sized, place, size, dark):
    sized(size, dark)
    go_to(page, place)
    page.run(axe)
    found = page.driver.execute_async_script("axe.run().then(arguments[0])")
    told = [
        (rule["id"], node["html"], node["failureSummary"]) for rule in found["violations"] for node in rule["nodes"]
    ]
    assert told == []
    assert {"color-contrast", "image-alt", "link-name"} <= {rule["id"] for rule in found["passes"]}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_sticks_out_on_a_phone(page, sized, place):
    sized(NARROW, False)
    go_to(page, place)
    assert page.run("return document.documentElement.scrollWidth") <= NARROW[0]


def test_headings_are_in_order(page):
    for place in PLACES:
        go_to(page, place)
        levels = page.run(
            "return [...document.querySelectorAll('h1, h2, h3')].filter(each => each.checkVisibility())"
            ".map(each => Number(each.tagName[1]))"
        )
        assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))


# --- names that would act ---------------------------------------------------------------------------------------------


def test_hostile_names_are_text(driver, tmp_path_factory):
    from test_album import HOSTILE

    folder = tmp_path_factory.mktemp("hostile")
    gallery = albums.write_gallery(folder / "v1", HOSTILE)
    seen = [Seen(f"/album/{name}.jpg", [(name, 0.5), ("Ann", 1.2)]) for name in HOSTILE]
    left_out = [(f"/album/{name}.png", "no_face", name) for name in HOSTILE]
    results = albums.write_results(folder / "m", seen, gallery, left_out=left_out)
    assert cli.main(["report", str(results)]) == 0
    for log in ("browser", "performance"):
        driver.get_log(log)
    page = Page(driver, results / "report").open()
    assert sorted(names(page)) == sorted(map(escaped, HOSTILE))
    assert sorted(page.texts("#cards .path")) == sorted(f"{escaped(name)}.jpg" for name in HOSTILE)
    elements = page.run("return document.querySelectorAll('script, img[src=x], b').length")
    for number, name in enumerate(HOSTILE, start=1):
        page.run("location.hash = arguments[0]", f"photo={urllib.parse.quote(f'{escaped(name)}.jpg', safe='')}")
        page.shows("#detail .person-name", [escaped(name)])
        assert page.texts("#detail h2") == [f"Face {escaped(name)}.jpg"], number
        assert page.texts("#detail figcaption") == [f"/album/{escaped(name)}.jpg"]
    for view in ("people", "album"):
        page.run("location.hash = arguments[0]", f"view={view}")
        page.until(lambda view=view: page.texts(f"#{view} .name"))
        assert set(page.texts(f"#{view} .name")) <= set(map(escaped, HOSTILE))
    assert len(page.texts(".left-out .path")) == 6
    assert page.run("return document.querySelectorAll('script, img[src=x], b').length") == elements
    check_logs(driver, results / "report")  # an alert would have stopped it, a blocked script would be told


def test_the_policy_stops_what_a_name_would_do_as_markup(page):
    """Nothing puts names into markup; if something did, this is what would be left of it."""
    page.open()
    page.run(
        "document.body.insertAdjacentHTML('beforeend', `<img src=http://127.0.0.1:9/x.jpg onerror='window.ran = 1'>"
        "<a id=bad href='javascript:window.ran = 2'>x</a><script>window.ran = 3</script>`)"
    )
    page.run("document.getElementById('bad').click()")
    page.until(lambda: page.run("return document.images[document.images.length - 1].complete"))
    told = [entry["message"] for entry in page.driver.get_log("browser")]
    for what in ("Loading the image 'http://127.0.0.1:9/x.jpg'", "inline event handler", "JavaScript URL"):
        assert any(what in message and "Content Security Policy" in message for message in told), told
    assert page.run("return window.ran") is None
    for log in ("browser", "performance"):
        page.driver.get_log(log)
    page.open()


# --- the sample -------------------------------------------------------------------------------------------------------


def test_the_report_of_the_sample(driver, gallery, probes, tmp_path):
    output = tmp_path / "matches"
    assert cli.main(["match", str(probes), f"--gallery={gallery}", f"--output={output}", "--report"]) == 0
    for log in ("browser", "performance"):
        driver.get_log(log)
    page = Page(driver, output / "report").open()
    page.shows("#status", ["25 faces"])
    assert page.unloaded() == []
    assert sorted(set(names(page))) == ["ben_afflek", "elton_john", "jerry_seinfeld", "madonna", "mindy_kaling"]
    assert len(page.run("return document.querySelectorAll('.pair img:nth-child(2)')")) == 25
    check_logs(driver, output / "report")
