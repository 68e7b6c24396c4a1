"""The report in Debian's Chromium: errors, the slider, and what is cut off."""

import os
import shutil

import pytest

from proxyless_jax.report.page import write_report
from tests.report.conftest import STEPS, write_end, write_search
from tests.spaces import widening_tree_space

CHROMIUM = shutil.which("chromium")
# Elements with text of their own that is wider than they are. Parts that are
# meant to scroll are left out, and Plotly's drawings, which measure themselves.
CUT_OFF = """
[...document.querySelectorAll('main *')].filter(element =>
  element.clientWidth > 0 &&
  element.scrollWidth > element.clientWidth + 1 &&
  getComputedStyle(element).display !== 'inline' &&
  !element.closest('svg, .js-plotly-plot') &&
  !element.matches('.scroll')
).map(element => `${element.tagName} ${element.textContent.slice(0, 60)}`)
"""
COLOURS = """
[...document.querySelectorAll('#moved td, #moved i')].map(cell =>
  getComputedStyle(cell).backgroundColor + cell.style.opacity)
"""


@pytest.fixture(scope="module")
def browser():
  api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed"
  )
  if CHROMIUM is None:
    pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
  with api.sync_playwright() as playwright:
    # Chromium's sandbox does not work for root, as in containers.
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    opened = playwright.chromium.launch(
      executable_path=CHROMIUM, args=arguments
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=["chain", "tree"])
def report(request, tmp_path_factory):
  """The address of a report of each family."""
  folder = tmp_path_factory.mktemp(request.param)
  space = widening_tree_space() if request.param == "tree" else None
  write_end(folder, write_search(folder, space))
  return f"file://{write_report(folder)}"


@pytest.fixture(scope="module", params=[390, 1400])
def page(request, browser, report):
  """The report as opened, which must not have logged anything."""
  viewport = {"width": request.param, "height": 900}
  page = browser.new_page(viewport=viewport, color_scheme="dark")
  logged = []
  page.on("console", lambda message: logged.append(message.text))
  page.on("pageerror", lambda error: logged.append(str(error)))
  page.on("request", lambda asked: logged.append(f"asked for {asked.url}"))
  page.goto(report)
  if page.locator("#plotly").evaluate("e => e.textContent.length"):
    page.wait_for_selector(".chart .main-svg", state="attached")
  yield page
  page.close()
  assert logged == [f"asked for {report}"]


def test_nothing_is_cut_off(page):
  assert page.evaluate(CUT_OFF) == []
  width = page.evaluate("document.documentElement.scrollWidth")
  assert width == page.viewport_size["width"]


def test_the_slider_moves_the_picture(page):
  last = page.evaluate(COLOURS)
  assert page.inner_text("#step") == f"step {STEPS}"
  page.locator("#slider").press("Home")
  assert page.inner_text("#step") == "step 1"
  first = page.evaluate(COLOURS)
  assert len(first) == len(last) > 1
  assert first != last
  page.locator("#slider").press("End")
  assert page.evaluate(COLOURS) == last


def test_the_button_plays(page):
  page.click("#play")
  assert page.inner_text("#play") == "Pause"
  assert page.inner_text("#step") == "step 1"
  page.wait_for_function("document.getElementById('slider').value > 0")
  page.click("#play")
  assert page.inner_text("#play") == "Play"


def test_charts_follow_the_theme(page):
  if not page.locator(".chart .main-svg").count():
    pytest.skip("Plotly (extra `report`) is not installed")
  colour = "getComputedStyle(document.querySelector('.xtick text')).fill"
  dark = page.evaluate(colour)
  page.emulate_media(color_scheme="light")
  page.wait_for_function(f"{colour} !== '{dark}'")
