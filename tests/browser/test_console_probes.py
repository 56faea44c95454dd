"""Probe sets in a real browser: written, asked of several versions, changed, deleted."""

import pytest
from playwright.sync_api import expect
from visiting import ASKED, LESSONS, PIN, RIGHT, WRONG, bank_of, saved, sign_in, taught
from watching import Watched

pytestmark = pytest.mark.timeout(900)

UNKNOWN = "Who won the regatta on the lake last summer?"


def test_probe_set_is_written_asked_of_versions_changed_and_deleted(context, url, lab, shots):
    bank_of(lab, "probing", (PIN, RIGHT), *(lesson[:2] for lesson in LESSONS))
    saved(lab, "probing", "approved")
    taught(lab, "probing", (PIN, WRONG))
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/probing/probes")
    expect(page.get_by_text("A probe set is a list of questions")).to_be_visible()
    watched.shown(shots / "probes-empty")
    page.get_by_role("button", name="New probe set…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill("Before each release")
    dialog.get_by_label("Question 1", exact=True).fill(ASKED)
    dialog.get_by_label("Answer 1").fill(RIGHT)
    dialog.get_by_role("button", name="Add a question").click()
    expect(dialog.get_by_label("Question 2", exact=True)).to_be_focused()
    dialog.get_by_label("Question 2", exact=True).fill(UNKNOWN)
    dialog.get_by_role("button", name="Take the newest 20 corrections").click()
    expect(dialog.get_by_label("Question 6", exact=True)).to_have_value(LESSONS[0][0])
    expect(dialog.get_by_text("6 questions")).to_be_visible()
    dialog.get_by_role("button", name="Take question 3 away").click()  # the newest correction, which is the wrong one
    watched.shown(shots / "probes-form")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Before each release", level=1)).to_be_visible()

    expect(page.get_by_label("now", exact=True)).to_be_checked()
    expect(page.get_by_label("approved")).to_be_checked()
    page.get_by_role("button", name="Ask 5 questions of 2 versions").click()
    expect(page.get_by_text("1 answer differs")).to_be_visible()
    matrix = page.get_by_role("region", name="Answers by version")
    assert [one.get_attribute("aria-valuetext") for one in matrix.get_by_role("meter").all()] == ["5 of 5", "4 of 5"]
    rows = matrix.locator("tbody tr")
    expect(rows).to_have_count(1)
    cells = [" ".join(cell.split()) for cell in rows.locator("th, td").all_inner_texts()]
    assert cells == [f"{ASKED} expected: {RIGHT}", f"✓ passed: {RIGHT}", f"✗ failed: {WRONG}"]
    page.get_by_label("Only where they differ").uncheck()
    expect(rows).to_have_count(5)
    expect(rows.filter(has_text=UNKNOWN)).to_contain_text("silence")
    watched.shown(shots / "probes-matrix", full_page=True)

    page.get_by_role("button", name="Edit…").click()
    dialog.get_by_label("Answer 1").fill(WRONG)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    (only,) = lab.call("GET", "/v1/probe-sets?bank=probing", expect=200)["items"]
    changed = lab.call("GET", f"/v1/probe-sets/{only['id']}", expect=200)
    assert (changed["name"], changed["size"], changed["probes"][0]) == ("Before each release", 5, {"input": ASKED, "expected": WRONG})
    assert changed["probes"][1] == {"input": UNKNOWN, "expected": None}
    expect(page).to_have_url(f"{url}/console#/probing/probes/{only['id']}")
    page.get_by_role("button", name="Ask 5 questions of 2 versions").click()
    expect(matrix.get_by_role("meter").first).to_have_attribute("aria-valuetext", "4 of 5")

    page.get_by_role("button", name="All probe sets").click()
    page.get_by_role("grid").locator("tbody tr").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete…").click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("A probe set is a list of questions")).to_be_visible()
    assert lab.call("GET", "/v1/probe-sets?bank=probing", expect=200)["items"] == []
    watched.quiet(url)


def test_name_that_is_taken_is_told_so_and_nothing_is_lost(context, url, lab):
    bank_of(lab, "named", (PIN, RIGHT))
    probes = [{"input": PIN, "expected": RIGHT}]
    for name in ("one", "two"):
        lab.call("POST", "/v1/probe-sets", {"bank": "named", "name": name, "probes": probes}, expect=201)
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/named/probes")
    page.get_by_role("button", name="one", exact=True).click()
    page.get_by_role("button", name="Edit…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("two")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("already; delete it first, or take another name")
    assert [one["name"] for one in lab.call("GET", "/v1/probe-sets?bank=named", expect=200)["items"]] == ["one", "two"]
