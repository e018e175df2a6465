"""The playground in Chromium, with servers of tiny models. Run: pytest tests/test_playground.py"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gpt1
from support.playground_driver import CONTRASTS, KEY, PATIENCE, Servers, browser

STATIC = Path(gpt1.__file__).parent / "serve" / "static"
STRINGS: dict[str, dict[str, str]] = json.loads((STATIC / "strings.json").read_text(encoding="utf-8"))
READABLE = 4.5
"""Minimum contrast of text (WCAG 2.2, 1.4.3, level AA)."""
STARTING = 120_000
"""Timeout in milliseconds; the server accepts connections before the model is loaded."""
PHONE = {"width": 360, "height": 740}
LONG = "house " * 300
"""Longer than the 192 tokens of /v1/attention and the models' 256 tokens."""

# ---- the files


def test_each_string_stands_in_both_languages_with_the_same_values() -> None:
    for row, told in STRINGS.items():
        assert told.keys() == {"en", "zh"}, row
        assert all(text.strip() for text in told.values()), row
        assert {*re.findall(r"{\w+}", told["en"])} == {*re.findall(r"{\w+}", told["zh"])}, row


def test_strings_are_those_that_the_page_asks_for() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in STATIC.iterdir() if path.suffix in (".js", ".html"))
    quoted = {*re.findall(r"[\"'`]([a-z][\w.-]*)[\"'`]", source)}
    made = ("tab.", "about.", "field.", "task.")  # their rows' names are put together: `tab.${name}`
    assert [row for row in STRINGS if row.removesuffix(".hint") not in quoted and not row.startswith(made)] == []
    named = r"\b(?:t|label|holder): \[?\"([\w.]+)\"|(?:data-t[a-z-]*=|fail\(|tell\([\w.]+, )\"([\w.]+)\""
    told = {row for found in re.findall(named, source) for row in found if row}
    assert len(told) > 40
    assert told <= STRINGS.keys()


def test_page_loads_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]+/|@import|url\(|innerHTML|eval\(", text), path.name


# ---- in the browser

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("models"))
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture(scope="module")
def chromium(servers: Servers) -> Iterator[Any]:
    with browser() as found:
        servers.start("single", "none", "pair", "choices")
        yield found


Open = Callable[..., Any]


@pytest.fixture
def visit(chromium: Any, servers: Servers) -> Iterator[Open]:
    """Open the page of a model's server; at the end, check for console errors and requests to other hosts.

    A status that says no is written to the console by the browser itself; `refused` are those that a test provokes.
    """
    faults: list[str] = []
    contexts = []

    def open_page(name: str, panel: str = "", *, refused: str = "", **settings: Any) -> Any:
        context = chromium.new_context(**({"locale": "en-US"} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        url = servers.url(name)

        def told(message: Any) -> None:
            expected = refused and re.search(refused, message.text)
            if message.type in ("error", "warning") and not expected:
                faults.append(message.text)

        page.on("console", told)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: request.url.startswith(url) or faults.append(f"asked for {request.url}"))
        page.goto(f"{url}/#{panel}", timeout=STARTING)
        if name != "choices":
            page.get_by_role("tab").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def asked(page: Any, path: str, body: dict[str, Any]) -> Any:
    """Return the server's response to a request from the page."""
    return page.evaluate(
        "([path, body]) => fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, "
        "body: JSON.stringify(body)}).then((answer) => answer.json())",
        [path, body],
    )


def shown_bars(page: Any, panel: str) -> dict[str, str]:
    rows = page.locator(f"#{panel} .bars .line")
    rows.first.wait_for()
    pairs = zip(rows.locator(".name").all_inner_texts(), rows.locator(".number").all_inner_texts(), strict=True)
    return dict(pairs)


def percent(share: float) -> str:
    return f"{share:.1%}"


def test_header_names_the_model_and_links_to_the_api(visit: Open) -> None:
    page = visit("single")
    assert page.title() == "tiny-single · gpt1"
    assert page.get_by_role("heading", level=1).inner_text() == "tiny-single"
    facts = page.locator("#facts").inner_text()
    assert all(fact in facts for fact in ("classification", "label 0, label 1", "2 layers × 32, 4 heads", "cpu"))
    assert page.get_by_role("link", name="API").get_attribute("href") == "docs"


def test_header_links_to_the_report_of_a_run_that_has_one(visit: Open) -> None:
    assert visit("none").locator("#report").is_hidden()
    page = visit("single")
    page.get_by_role("link", name="Report").click()
    page.wait_for_url("**/report")
    assert page.title() == "a report"


def test_classify_shows_each_labels_probability_and_each_words_weight(visit: Open) -> None:
    page = visit("single", "classify")
    text = "Warm, funny 🙂 and over far too soon."
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()
    found = asked(page, "v1/classify", {"input": text})["data"][0]
    likeliest = sorted(found["scores"].items(), key=lambda score: -score[1])[:10]
    assert list(shown_bars(page, "classify").items()) == [(name, percent(share)) for name, share in likeliest]
    assert found["label"] in page.locator(".verdict").inner_text()
    words = page.locator("#classify [role=option]")
    words.first.wait_for()
    expected = asked(page, "v1/explain", {"input": text})["texts"][0]["words"]
    assert words.all_inner_texts() == [word["text"] for word in expected]
    assert page.locator("#classify .words").inner_text() == text
    strongest = max(expected, key=lambda word: abs(word["weight"]))
    word = words.nth(expected.index(strongest))
    assert word.get_attribute("class").split()[1] == ("for" if strongest["weight"] > 0 else "against")
    word.hover()
    shown = word.evaluate("(word) => getComputedStyle(word, '::after').content")
    assert f"{strongest['weight']:+.3f}".replace("-", "−") in shown
    assert shown.strip('"') in word.get_attribute("aria-label")


def test_another_label_is_explained_and_occlusion_checks_the_words(visit: Open) -> None:
    page = visit("single", "classify")
    page.get_by_role("button", name="The handle broke").click()
    assert len(shown_bars(page, "classify")) == 10
    assert "4 less likely labels" in page.locator("#classify .result").inner_text()
    page.get_by_role("combobox", name="Word weights for").wait_for()
    with page.expect_response("**/v1/explain") as answer:
        page.get_by_role("combobox", name="Word weights for").select_option("label 3")
    assert json.loads(answer.value.request.post_data)["label"] == "label 3"
    with page.expect_response("**/v1/explain") as answer:
        page.get_by_role("checkbox", name="Verify by occlusion").check()
    assert answer.value.json()["explained"] == "label 3"
    page.get_by_text("In brackets").wait_for()
    page.get_by_text("words with the largest weights").click()
    page.get_by_role("columnheader", name="Occlusion").wait_for()
    assert page.get_by_role("combobox", name="Word weights for").input_value() == "label 3"


def test_too_long_text_is_cut_and_the_page_says_so(visit: Open) -> None:
    page = visit("single", "classify")
    page.get_by_role("textbox", name="Text").fill(LONG)
    page.get_by_role("button", name="Classify", exact=True).click()
    page.get_by_text("truncated to 256 tokens").wait_for()
    page.locator("#classify .lost").last.wait_for()
    assert page.get_by_role("textbox", name="Text").input_value() == LONG


def test_pairs_have_two_texts_and_an_empty_one_is_asked_for(visit: Open) -> None:
    page = visit("pair", "classify")
    page.get_by_role("textbox", name="First text").fill("the old house")
    page.get_by_role("button", name="Classify", exact=True).click()
    second = page.get_by_role("textbox", name="Second text")
    assert second.get_attribute("aria-invalid") == "true"
    assert second.evaluate("(field) => field === document.activeElement")
    second.fill("it was tired")
    page.get_by_role("button", name="Classify", exact=True).click()
    assert shown_bars(page, "classify").keys() == {"contradiction", "entailment", "neutral"}
    page.get_by_role("listbox", name="Second text").wait_for()


def test_choices_are_added_and_removed_and_the_key_is_asked_for(visit: Open) -> None:
    page = visit("choices", "classify", refused="401")
    page.get_by_label("API key").fill("another")
    page.get_by_role("button", name="Use key").click()
    page.get_by_text("rejected this API key").wait_for()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use key").click()
    page.get_by_role("textbox", name="Context").fill("the old house")
    for number, text in enumerate(["stood on the hill", "was tired", "and over"], 1):
        if number > 2:
            page.get_by_role("button", name="Add choice").click()
        page.get_by_role("textbox", name=f"Choice {number}", exact=True).fill(text)
    page.get_by_role("button", name="Remove choice 2").click()
    page.get_by_role("button", name="Classify", exact=True).click()
    assert shown_bars(page, "classify").keys() == {"stood on the hill", "and over"}
    page.locator("#classify .word").first.wait_for()
    page.reload()
    assert page.get_by_role("textbox", name="Choice 2", exact=True).input_value() == "and over"
    assert not page.get_by_label("API key").is_visible()


def test_generate_streams_after_the_dimmed_prompt_and_the_seed_repeats_it(visit: Open) -> None:
    page = visit("none", "generate")
    page.get_by_role("textbox", name="Prompt").fill("the old house")
    page.get_by_role("slider", name="Maximum tokens").fill("12")
    page.get_by_role("spinbutton", name="Seed").fill("7")
    written = page.get_by_role("region", name="Generated text")
    texts = []
    for _ in range(2):
        page.get_by_role("button", name="Generate", exact=True).click()
        page.get_by_text("12 tokens").wait_for()
        texts.append(written.inner_text())
    assert texts[0].startswith("the old house")
    assert texts[0] == texts[1]
    assert written.locator(".prompt").inner_text() == "the old house"
    expected = asked(
        page,
        "v1/completions",
        {"prompt": "the old house", "max_tokens": 12, "temperature": 0.8, "top_p": 0.95, "seed": 7},
    )
    assert texts[0].removeprefix("the old house") == expected["choices"][0]["text"]


def test_generate_can_be_stopped_and_goes_on_from_there(visit: Open) -> None:
    page = visit("none", "generate", refused="ERR_ABORTED")
    page.get_by_role("textbox", name="Prompt").fill("the old house")
    page.get_by_role("slider", name="Maximum tokens").evaluate(
        "(slider) => { slider.max = 2000 }"
    )  # time enough to stop it
    page.get_by_role("slider", name="Maximum tokens").fill("2000")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator(".written > span + span:not(:empty)").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    assert page.get_by_role("button", name="Continue generating").is_visible()
    assert not page.get_by_role("button", name="Stop").is_visible()


def test_next_follows_the_typing_and_a_click_appends_the_token(visit: Open) -> None:
    page = visit("none", "next")
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.press_sequentially("the old")
    assert len(shown_bars(page, "next")) == 10
    first = page.locator("#next button.line").first
    token = first.locator(".name").inner_text().removesuffix("…")
    with page.expect_response("**/v1/next"):
        first.click()
    assert prompt.input_value().startswith("the old")
    assert prompt.input_value().endswith(token.replace("⏎", "\n"))
    assert len(prompt.input_value()) > len("the old")


def test_attention_shows_where_a_word_looks_by_layer_and_head(visit: Open) -> None:
    page = visit("single", "attention")
    text = "the old house stood on the hill"
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_role("button", name="Show attention").click()
    page.locator("#attention .token").first.wait_for()
    with page.expect_response("**/v1/attention"):
        page.get_by_role("combobox", name="Layer").select_option(index=1)
    page.locator("#attention [aria-busy]").wait_for(state="detached")
    found = asked(page, "v1/attention", {"input": text, "layer": 1})
    page.get_by_role("radio", name="3", exact=True).check()
    page.get_by_role("checkbox", name="Ignore the first token").uncheck()
    tokens = page.locator("#attention [role=option]")
    assert tokens.count() == len(found["tokens"])
    assert page.get_by_role("radio").count() == len(found["heads"]) + 1
    tokens.nth(5).hover()
    shown = [token.get_attribute("data-note") for token in tokens.all()]
    assert shown == [percent(share) for share in found["heads"][2][5]] + [""] * (len(found["tokens"]) - 6)
    pixels = page.locator("canvas.matrix").evaluate(
        "(c) => [...c.getContext('2d').getImageData(0, 5, c.width, 1).data].filter((_, i) => i % 4 === 3)"
    )
    assert pixels == pytest.approx([255 * share**0.5 for share in found["heads"][2][5]] + [0] * (len(shown) - 6), abs=1)


def test_over_long_text_for_attention_is_said_at_its_field(visit: Open) -> None:
    page = visit("single", "attention", refused="4(13|22)")
    page.get_by_role("textbox", name="Text").fill(LONG)
    page.get_by_role("button", name="Show attention").click()
    error = page.locator("#attention .error").filter(has_text="192")
    error.wait_for()
    field = page.get_by_role("textbox", name="Text")
    assert field.get_attribute("aria-describedby") == error.get_attribute("id")
    assert field.input_value() == LONG


def test_language_model_has_no_classify_and_says_why(visit: Open) -> None:
    page = visit("none", "classify")
    assert page.get_by_role("tab").all_inner_texts() == ["Generate", "Next token", "Attention"]
    assert "without a task head" in page.locator("#missing").inner_text()


# ---- for everybody


def test_language_is_the_browsers_first_and_then_the_chosen_one(visit: Open) -> None:
    page = visit("single", "classify", locale="zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.get_by_role("tab").all_inner_texts() == ["分类", "续写", "下一个词元", "注意力"]
    page.get_by_role("button", name="English").click()
    assert page.get_by_role("tab").first.inner_text() == "Classify"
    page.reload()
    assert page.get_by_role("tab").first.inner_text() == "Classify"
    page.get_by_role("button", name="中文").click()
    for one in page.locator("[data-t]").all():
        assert one.text_content() in {
            re.sub(r"{\w+}", "", told["zh"]) for told in STRINGS.values()
        } or "data-t-values" in (one.evaluate("(it) => it.getAttributeNames().join()"))


def test_theme_is_the_systems_first_and_then_the_chosen_one(visit: Open) -> None:
    page = visit("none", color_scheme="dark")
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_role("button", name="Light").click()
    light = page.evaluate(paper)
    assert light != dark
    page.reload()
    page.get_by_role("button", name="Dark").wait_for()
    assert page.evaluate(paper) == light


def test_classify_works_with_the_keyboard_alone(visit: Open) -> None:
    page = visit("single")
    focused = "() => document.activeElement.getAttribute('role') ?? document.activeElement.tagName"

    def tab_to(role: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == role:
                return
        pytest.fail(f"Tab does not reach {role}")

    tab_to("tab")
    page.keyboard.press("End")
    assert page.get_by_role("tab", name="Attention").get_attribute("aria-selected") == "true"
    page.keyboard.press("Home")
    tab_to("TEXTAREA")
    page.keyboard.type("warm and funny")
    page.keyboard.press("Control+Enter")
    page.locator("#classify .word").first.wait_for()
    tab_to("option")
    page.keyboard.press("ArrowRight")
    word = page.locator("#classify [role=option]:focus")
    assert word.inner_text() == "and"
    assert word.evaluate("(it) => getComputedStyle(it, '::after').content") != "none"
    assert word.evaluate("(it) => getComputedStyle(it).outlineStyle") == "solid"


def fill_all(page: Any) -> None:
    """Run an example in every panel of a classifier."""
    for panel, ready in {
        "generate": ".written > span + span",
        "next": ".bars",
        "attention": ".token",
        "classify": ".word",
    }.items():
        page.locator(f"#tab-{panel}").click()
        page.locator(f"#{panel} .example").first.click()
        page.locator(f"#{panel} {ready}").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_every_text_can_be_read(visit: Open, scheme: str) -> None:
    page = visit("single", color_scheme=scheme, reduced_motion="reduce")
    fill_all(page)
    session = page.context.new_cdp_session(page)
    for panel in ("classify", "generate", "next", "attention"):
        page.locator(f"#tab-{panel}").click()
        page.locator(f"#{panel} [aria-busy]").wait_for(state="detached")
        tree = session.send("Accessibility.getFullAXTree")["nodes"]
        controls = {"button", "checkbox", "combobox", "image", "link", "listbox", "option", "radio", "region", "slider"}
        controls |= {"spinbutton", "tab", "tabpanel", "textbox"}
        found = [node for node in tree if not node["ignored"] and node["role"]["value"] in controls]
        assert len(found) > 10
        assert [node for node in found if not node.get("name", {}).get("value", "").strip()] == []
        weakest, element = page.evaluate(CONTRASTS)[0]
        assert weakest >= READABLE, (panel, element)


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_page_fits_a_phone(visit: Open, language: str) -> None:
    page = visit("single", viewport=PHONE, locale=language)
    fill_all(page)
    for panel in ("classify", "generate", "next", "attention"):
        page.locator(f"#tab-{panel}").click()
        page.locator(f"#{panel} details").evaluate_all("(all) => all.forEach((one) => { one.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], panel


# ---- last, because it ends a server


def test_dead_server_is_told_and_nothing_written_is_lost(visit: Open, servers: Servers) -> None:
    page = visit("pair", "classify", refused="ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET")
    servers.kill("pair")
    for panel, button in {"classify": "Classify", "generate": "Generate", "attention": "Show attention"}.items():
        page.locator(f"#tab-{panel}").click()
        fields = page.locator(f"#{panel} textarea")
        for field in fields.all():
            field.fill("the old house")
        page.get_by_role("button", name=button, exact=True).click()
        page.locator(f"#{panel} .error").filter(has_text="not responding").first.wait_for()
        assert {field.input_value() for field in fields.all()} == {"the old house"}
