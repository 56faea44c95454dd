"""Branches in a real browser: made, taught, compared, promoted, deleted."""

import pytest
from playwright.sync_api import expect
from visiting import LESSONS, PIN, RIGHT, WRONG, bank_of, confirm, fill_lesson, said, sign_in, taught
from watching import Watched

pytestmark = pytest.mark.timeout(900)

SPAIN = LESSONS[1][:2]


def test_branch_is_made_taught_compared_and_promoted(context, url, lab, shots):
    bank_of(lab, "trunk", (PIN, RIGHT))
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/trunk/versions/branches")
    expect(page.get_by_text("No branch yet.")).to_be_visible()
    watched.shown(shots / "branches-empty")
    page.get_by_role("button", name="New branch…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_have_value("trunk-try")
    dialog.get_by_label("Name").fill("new wording")
    watched.shown(shots / "branch-new")
    dialog.get_by_role("button", name="Make the branch").click()
    branch = page.get_by_role("article", name="new wording")
    expect(branch).to_contain_text("began with 1 correction")

    branch.get_by_role("button", name="Teach it…").click()
    expect(page.get_by_role("dialog", name="Teach new wording")).to_be_visible()
    fill_lesson(page, PIN, WRONG, RIGHT)
    assert (said(lab, "trunk", PIN), said(lab, "new wording", PIN)) == (RIGHT, WRONG)
    watched.shown(shots / "branches")
    branch.get_by_role("button", name="Compare…").click()
    expect(dialog.get_by_text("1 answer differs")).to_be_visible()
    answers = dialog.get_by_role("heading", name="Answers").locator("..").locator("tbody tr")
    assert answers.inner_text().split("\t") == [PIN, RIGHT, WRONG]
    watched.shown(shots / "branch-compare")
    page.keyboard.press("Escape")
    branch.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("heading", name="new wording", level=1)).to_be_visible()
    expect(page.locator(".tiles dd").first).to_have_text("2")
    page.go_back()

    branch.get_by_role("button", name="Promote…").click()
    expect(dialog.get_by_text("1 answer differs")).to_be_visible()
    watched.shown(shots / "branch-promote")
    confirm(dialog, "trunk", "Promote")
    expect(dialog.get_by_text("has learned 1 correction from new wording")).to_be_visible()
    assert said(lab, "trunk", PIN) == WRONG
    dialog.get_by_role("button", name="Done").click()
    expect(branch).to_have_count(0)
    expect(page.get_by_label("Bank").get_by_role("option", name="new wording")).to_have_count(0)
    watched.quiet(url)


def test_bank_that_moved_on_is_told_and_the_branch_added_to_it(context, url, lab):
    bank_of(lab, "busy", (PIN, RIGHT))
    lab.call("POST", "/v1/branches", {"bank": "busy", "name": "busy-try"}, expect=201)
    taught(lab, "busy-try", (PIN, WRONG))
    taught(lab, "busy", SPAIN)
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/busy/versions/branches")
    page.get_by_role("article", name="busy-try").get_by_role("button", name="Promote…").click()
    dialog = page.get_by_role("dialog")
    confirm(dialog, "busy", "Promote")
    expect(dialog.get_by_role("alert")).to_contain_text("Tick the box below")
    assert said(lab, "busy", PIN) == RIGHT
    dialog.get_by_label("busy has changed since").check()
    dialog.get_by_role("button", name="Promote", exact=True).click()
    expect(dialog.get_by_text("has learned 1 correction")).to_be_visible()
    assert (said(lab, "busy", PIN), said(lab, "busy", SPAIN[0])) == (WRONG, SPAIN[1])


def test_branch_is_deleted_after_its_name_is_typed(context, url, lab):
    bank_of(lab, "kept", (PIN, RIGHT))
    lab.call("POST", "/v1/branches", {"bank": "kept", "name": "dropped"}, expect=201)
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/kept/versions/branches")
    branch = page.get_by_role("article", name="dropped")
    branch.get_by_role("button", name="Delete…").click()
    confirm(page.get_by_role("dialog"), "dropped", "Delete the branch")
    expect(page.get_by_text("No branch yet.")).to_be_visible()
    assert "dropped" not in [one["name"] for one in lab.call("GET", "/v1/banks", expect=200)["items"]]
    assert said(lab, "kept", PIN) == RIGHT
    watched.quiet(url)
