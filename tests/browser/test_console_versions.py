"""Versions in a real browser: going back in every way, looking at one version, finding what changed an answer."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect
from visiting import ASKED, LESSONS, PIN, RIGHT, WRONG, bank_of, confirm, said, saved, sign_in, statuses, taught
from watching import Watched

pytestmark = pytest.mark.timeout(900)

THERE = ZoneInfo("Asia/Kolkata")  # where the visitor is
SPAIN, CARD = LESSONS[1][:2], LESSONS[2][:2]


def test_bank_goes_back_to_a_moment_and_forward_again(context, url, lab, shots):
    bank_of(lab, "moments", (PIN, RIGHT))
    watched = Watched(context)
    page = sign_in(watched, url)
    page.wait_for_timeout(1100)  # the field takes whole seconds
    moment = datetime.now(THERE).strftime("%Y-%m-%dT%H:%M:%S")
    page.wait_for_timeout(1100)
    taught(lab, "moments", (PIN, WRONG))
    page.goto(f"{url}/console#/moments/versions")
    page.get_by_role("button", name="Go back…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("To a moment.")).to_be_checked()
    expect(dialog.get_by_text("You see which answers would change before anything does.")).to_be_visible()
    dialog.get_by_label("Moment", exact=True).fill(moment)
    expect(dialog.get_by_text("1 answer would change")).to_be_visible()
    assert dialog.locator(".sheet tbody tr").inner_text().split("\t") == [PIN, WRONG, RIGHT]
    watched.shown(shots / "go-back-moment")
    assert said(lab, "moments", PIN) == WRONG, "a preview changes nothing"
    confirm(dialog, "moments", "Roll back")
    expect(dialog.get_by_text("1 answer changed.")).to_be_visible()
    assert said(lab, "moments", PIN) == RIGHT
    dialog.get_by_role("button", name="Undo").click()
    expect(dialog).to_have_count(0)
    assert said(lab, "moments", PIN) == WRONG
    watched.quiet(url)


def test_moment_before_the_bank_is_refused_in_words(context, url, lab):
    bank_of(lab, "young", (PIN, RIGHT))
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/young/versions")
    page.get_by_role("button", name="Go back…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Moment", exact=True).fill("2020-01-01T00:00:00")
    expect(dialog.get_by_role("alert")).to_contain_text("the bank had no state at 2019-12-31T18:30:00")
    expect(dialog.get_by_role("button", name="Roll back", exact=True)).to_have_count(0)


def test_bank_answers_as_if_a_session_had_never_taught_it(context, url, lab, shots):
    (good,) = bank_of(lab, "sources", (PIN, RIGHT))
    bad = taught(lab, "sources", (PIN, WRONG), SPAIN, session="chat-bad")
    (later,) = taught(lab, "sources", CARD)
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/sources/versions")
    page.get_by_role("button", name="Go back…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Without a source.").check()
    dialog.get_by_label("Name of the session").fill("chat-bad")
    expect(dialog.get_by_text("2 answers would change")).to_be_visible()
    expect(dialog.get_by_text("2 corrections would leave the weights")).to_be_visible()
    expect(dialog.get_by_label("Keep what came after.")).to_have_count(0)
    watched.shown(shots / "go-back-source")
    confirm(dialog, "sources", "Roll back")
    expect(dialog.get_by_text("In every process the bank answers without session chat-bad")).to_be_visible()
    assert statuses(lab, "sources") == {good: "active", bad[0]: "rolled_back", bad[1]: "rolled_back", later: "active"}
    assert said(lab, "sources", PIN) == RIGHT
    watched.quiet(url)


def test_bank_answers_as_if_a_key_had_never_taught_it_but_for_what_is_kept(context, url, lab):
    (first,) = bank_of(lab, "keyed", (PIN, RIGHT))
    minted = lab.call("POST", "/v1/keys", {"name": "night shift", "scopes": ["corrections:write"]}, expect=201)
    wrong, fine = taught(lab, "keyed", (PIN, WRONG), SPAIN, key=minted["key"])
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/keyed/versions")
    page.get_by_role("button", name="Go back…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Without a source.").check()
    dialog.get_by_label("All that was taught by").select_option(label="a key")
    dialog.get_by_label("Key", exact=True).select_option(label=f"night shift ({minted['prefix']}…)")
    expect(dialog.get_by_text("2 answers would change")).to_be_visible()
    dialog.get_by_label("Keep chosen corrections.").check()
    dialog.get_by_role("region", name="Corrections to keep").get_by_label(SPAIN[1]).check()
    expect(dialog.get_by_text("1 correction kept.")).to_be_visible()
    expect(dialog.get_by_text("1 answer would change")).to_be_visible()
    confirm(dialog, "keyed", "Roll back")
    expect(dialog.get_by_text("with what you kept")).to_be_visible()
    assert statuses(lab, "keyed") == {first: "active", wrong: "rolled_back", fine: "active"}


def test_rollback_to_a_version_keeps_what_came_after_or_what_is_chosen(context, url, lab, shots):
    (first,) = bank_of(lab, "keeping", (PIN, RIGHT))
    saved(lab, "keeping", "approved")
    wrong, spain, card = taught(lab, "keeping", (PIN, WRONG), SPAIN, CARD)
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/keeping/versions")
    page.get_by_role("article", name="approved").get_by_role("button", name="Roll back…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("3 answers would change")).to_be_visible()
    dialog.get_by_text("Keep something that came after").click()
    dialog.get_by_label("Keep what came after.").check()
    expect(dialog.get_by_text("No answer would change")).to_be_visible()
    dialog.get_by_label("Keep chosen corrections.").check()
    chooser = dialog.get_by_role("region", name="Corrections to keep")
    expect(chooser.get_by_role("checkbox")).to_have_count(3)
    chooser.get_by_role("searchbox").fill("Spain")
    expect(chooser.get_by_role("checkbox")).to_have_count(1)
    chooser.get_by_role("checkbox").check()
    expect(dialog.get_by_text("2 answers would change")).to_be_visible()
    watched.shown(shots / "roll-back-keeping")
    confirm(dialog, "keeping", "Roll back")
    expect(dialog.get_by_text("2 answers changed.")).to_be_visible()
    assert statuses(lab, "keeping") == {first: "active", wrong: "rolled_back", spain: "active", card: "rolled_back"}
    watched.quiet(url)


def test_head_that_moved_since_the_preview_is_told_and_looked_at_again(context, url, lab):
    bank_of(lab, "moving", (PIN, RIGHT))
    saved(lab, "moving", "first")
    taught(lab, "moving", (PIN, WRONG))
    second = saved(lab, "moving", "second")
    taught(lab, "moving", SPAIN)
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/moving/versions")
    page.get_by_role("article", name="first").get_by_role("button", name="Roll back…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("2 answers would change")).to_be_visible()
    lab.call("POST", "/v1/rollback", {"bank": "moving", "to": second}, expect=200)
    confirm(dialog, "moving", "Roll back")
    expect(dialog.get_by_role("alert")).to_contain_text("head moved")
    expect(dialog.get_by_text("1 answer would change")).to_be_visible()
    assert said(lab, "moving", PIN) == WRONG
    confirm(dialog, "moving", "Roll back")
    expect(dialog.get_by_text("1 answer changed.")).to_be_visible()
    assert said(lab, "moving", PIN) == RIGHT


def test_version_is_looked_at_verified_and_given_up(context, url, lab, shots):
    bank_of(lab, "looked", (PIN, RIGHT))
    name = saved(lab, "looked", "approved")
    taught(lab, "looked", SPAIN)
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/looked/versions")
    article = page.get_by_role("article", name="approved")
    article.get_by_role("button", name="Details").click()
    drawer = page.get_by_role("dialog")
    told = lab.call("GET", f"/v1/snapshots/{name}?bank=looked", expect=200)
    expect(drawer).to_contain_text(name)
    drawer.get_by_role("button", name="Verify").click()
    expect(drawer.get_by_text("holds", exact=True)).to_be_visible()
    watched.shown(shots / "version-details")
    digests = {level["sha256"] for level in told["levels"]}
    blob = next(path for path in Path(lab.service.settings.var_dir).rglob("*") if path.is_file() and path.name.startswith(tuple(digests)))
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    drawer.get_by_role("button", name="Verify").click()
    expect(drawer.get_by_text("Do not go back to it.")).to_be_visible()
    blob.write_bytes(whole)
    drawer.get_by_role("button", name="Verify").click()
    expect(drawer.get_by_text("holds", exact=True)).to_be_visible()
    drawer.get_by_role("button", name="Delete…").click()
    expect(drawer.get_by_role("button", name="Cancel")).to_be_focused()
    drawer.get_by_role("button", name="Delete it").click()
    expect(drawer).to_have_count(0)
    expect(article).to_have_count(0)
    assert name not in [one["id"] for one in lab.call("GET", "/v1/snapshots?bank=looked", expect=200)["items"]]
    page.get_by_role("article").first.get_by_role("button", name="Details").click()
    expect(drawer.get_by_role("button", name="Delete…")).to_have_count(0)  # of the head
    watched.quiet(url)


def test_correction_that_changed_an_answer_is_found(context, url, lab, shots):
    bank_of(lab, "halving", (PIN, RIGHT), SPAIN, CARD)
    saved(lab, "halving", "approved")
    fillers = [(f"Question {place} about the monthly statement of account number {place}", f"See page {place}.") for place in range(12)]
    taught(lab, "halving", *fillers[:7])
    saved(lab, "halving", "between")
    (culprit,) = taught(lab, "halving", (PIN, WRONG), session="chat-bad")
    taught(lab, "halving", *fillers[7:])
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/halving/versions/find")
    button = page.get_by_role("button", name="Find the change")
    expect(button).to_be_disabled()
    page.get_by_label("Question", exact=True).fill(SPAIN[0])
    page.get_by_label("It was right in").select_option(label="approved")
    expect(page.get_by_text("Both answer alike.")).to_be_visible()
    expect(button).to_be_disabled()
    page.get_by_label("Question", exact=True).fill(ASKED)
    sides = page.locator(".side .said")
    expect(sides.nth(0)).to_have_text(RIGHT)
    expect(sides.nth(1)).to_have_text(WRONG)
    button.click()
    found = page.locator(".culprit")
    expect(found).to_contain_text(WRONG)
    expect(found).to_contain_text("in session chat-bad")
    expect(page.get_by_text("Still right in between")).to_be_visible()
    watched.shown(shots / "find-a-change", full_page=True)
    page.reload()
    expect(found).to_contain_text(WRONG)  # the address names the search
    found.get_by_role("button", name="Roll back to between…").click()
    expect(page.get_by_role("dialog").get_by_text("would change of")).to_be_visible()
    page.keyboard.press("Escape")
    found.get_by_role("button", name="Look at it").click()
    expect(page).to_have_url(f"{url}/console#/halving/corrections/{culprit}")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("grid").get_by_text("bisection").click()
    page.get_by_role("button", name="Show what came of it").click()
    expect(found).to_contain_text(WRONG)
    watched.quiet(url)


def test_search_from_before_a_rollback_says_what_to_do(context, url, lab):
    bank_of(lab, "bent", (PIN, RIGHT))
    first = saved(lab, "bent", "first")
    taught(lab, "bent", SPAIN)
    saved(lab, "bent", "second")
    lab.call("POST", "/v1/rollback", {"bank": "bent", "to": first}, expect=200)
    taught(lab, "bent", (PIN, WRONG))
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/bent/versions/find")
    page.get_by_label("It was right in").select_option(label="second")
    page.get_by_label("Question", exact=True).fill(PIN)
    page.get_by_role("button", name="Find the change").click()
    expect(page.get_by_role("alert")).to_contain_text("choose another")
