"""The console in a real browser: the whole story of a bank, told by clicking and typing, and every page readable by everybody."""

import json
import re
import sqlite3
import statistics
from pathlib import Path

import pytest
from fixtures_service import ADMIN_KEY
from playwright.sync_api import expect
from visiting import ASKED, DESK, LESSONS, PHONE, PIN, RIGHT, WRONG, ask, bank_of, sign_in, teach
from watching import Watched

pytestmark = pytest.mark.timeout(900)  # a browser on a machine that does much else


def test_the_whole_story(context, url, lab, shots):
    """Sign in, teach, ask, see the curve, save, teach wrongly, compare, preview, roll back, ask, forget, and see it done."""
    watched = Watched(context)
    watched.page.goto(f"{url}/console")
    expect(watched.page.get_by_label("API key")).to_be_focused()
    watched.accessible()
    watched.page.screenshot(path=shots / "01-sign-in.png")
    page = sign_in(watched, url)

    expect(page.get_by_role("heading", name="default", level=1)).to_be_visible()
    expect(page.get_by_text("Nothing was taught yet")).to_be_visible()
    teach(page, PIN, RIGHT)
    for situation, right, wrong in LESSONS:
        teach(page, situation, right, wrong)
    expect(page.locator(".tiles dd").first).to_have_text("4")
    expect(page.locator(".curve canvas")).to_have_count(2)
    expect(page.locator(".curve [role=img]").first).to_have_attribute("aria-label", re.compile("4 corrections"))
    expect(page.get_by_role("meter", name="fast level: answers alone")).to_have_attribute("aria-valuetext", "100 %")
    page.wait_for_timeout(300)
    watched.accessible()
    page.screenshot(path=shots / "02-overview.png", full_page=True)

    assert ask(page, ASKED, "nothing") == [RIGHT]
    page.get_by_role("button", name="Why?").click()
    expect(page.locator(".why .carriers li").first).to_contain_text(PIN)
    watched.accessible()
    page.screenshot(path=shots / "03-ask-why.png", full_page=True)

    page.keyboard.press("Escape")
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("button", name="Take a snapshot").click()
    page.get_by_label("Label").fill("before the move")
    page.get_by_label("Note").fill("Answers as the support team approved them.")
    page.get_by_role("dialog").get_by_role("button", name="Take a snapshot").click()
    saved = page.get_by_role("article", name="before the move", exact=True)
    saved.wait_for()

    teach(page, PIN, WRONG, RIGHT)
    assert ask(page, ASKED, "before the move") == [WRONG, RIGHT]
    expect(page.get_by_text("The two versions answer differently.")).to_be_visible()
    watched.accessible()
    page.screenshot(path=shots / "04-ask-two-versions.png", full_page=True)

    page.get_by_role("link", name="Versions").click()
    saved.get_by_role("button", name="Compare…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("1 answer differs")).to_be_visible()
    expect(dialog.get_by_text("1 correction came and 0 went")).to_be_visible()
    answers, came = (dialog.get_by_role("heading", name=name).locator("..").locator("tbody tr") for name in ("Answers", "Came"))
    assert answers.inner_text().split("\t") == [PIN, RIGHT, WRONG]
    assert came.inner_text().split("\t") == ["5", PIN, WRONG]
    watched.accessible()
    page.screenshot(path=shots / "05-compare.png")
    page.keyboard.press("Escape")
    expect(saved.get_by_role("button", name="Compare…")).to_be_focused()

    saved.get_by_role("button", name="Roll back…").click()
    expect(dialog.get_by_text("1 answer would change")).to_be_visible()
    expect(dialog.get_by_text("1 correction would leave the weights and 0 come back")).to_be_visible()
    assert dialog.locator(".sheet tbody tr").inner_text().split("\t") == [PIN, WRONG, RIGHT]
    assert lab.call("GET", "/v1/corrections", expect=200)["items"][4]["status"] == "active", "a preview changes nothing"
    button = dialog.get_by_role("button", name="Roll back")
    expect(button).to_be_disabled()
    dialog.get_by_label("Type default to confirm").fill("defaul")
    expect(button).to_be_disabled()
    dialog.get_by_label("Type default to confirm").fill("default")
    dialog.get_by_label("Reason (optional)").fill("The cash machines cannot do that.")
    watched.accessible()
    page.screenshot(path=shots / "06-roll-back-preview.png")
    button.click()
    expect(dialog.get_by_text("1 answer changed.")).to_be_visible()
    page.screenshot(path=shots / "07-rolled-back.png")
    dialog.get_by_role("button", name="Done").click()
    assert ask(page, ASKED, "nothing") == [RIGHT]
    assert lab.call("GET", "/v1/corrections", expect=200)["items"][4]["status"] == "rolled_back"

    page.get_by_role("link", name="Corrections").click()
    page.get_by_role("searchbox").fill("PIN")
    rows = page.get_by_role("grid").locator("tbody tr")
    expect(rows).to_have_count(2)
    rows.nth(1).click()
    drawer = page.get_by_role("dialog")
    expect(drawer.get_by_text("Its answer is the one that is given.")).to_be_visible()
    expect(drawer.get_by_role("meter", name=re.compile("Strength: (before the move|manual at 4)"))).to_be_visible()
    drawer.get_by_role("button", name="Why?").click()
    expect(drawer.locator(".why .carriers li").first).to_contain_text(PIN)
    watched.accessible()
    page.screenshot(path=shots / "08-correction.png")
    drawer.get_by_role("button", name="Forget…").click()
    forgetting = page.get_by_role("dialog", name="Forget 1 correction")
    expect(forgetting.get_by_label("Rebuild")).to_be_checked()
    expect(forgetting.get_by_text("1 correction would be forgotten; 1 answer would change at once")).to_be_visible()
    preview = forgetting.get_by_role("heading", name="What would be answered otherwise").locator("..").locator("tbody tr")
    assert preview.inner_text().split("\t")[:2] == [PIN, RIGHT]
    assert lab.call("GET", "/v1/corrections", expect=200)["items"][0]["status"] == "active", "a preview changes nothing"
    forgetting.get_by_label("Type default to confirm").fill("default")
    watched.accessible()
    page.screenshot(path=shots / "09-forget-preview.png")
    forgetting.get_by_role("button", name="Rebuild").click()
    certificate = page.get_by_role("dialog", name="Certificate of forgetting")
    expect(certificate.get_by_text("complete", exact=True)).to_be_visible()
    expect(certificate.get_by_text("the memory answers with none of them")).to_be_visible()
    watched.accessible()
    page.screenshot(path=shots / "10-certificate.png")
    with page.expect_download() as kept:
        certificate.get_by_role("button", name="Download as JSON").click()
    record = json.loads(Path(kept.value.path()).read_text())
    assert kept.value.suggested_filename == f"{record['id']}.json"
    assert record == lab.call("GET", f"/v1/forget/{record['id']}", expect=200)
    assert (record["complete"], record["passed"], record["removed"]["tombstones"]) == (True, True, 1)
    certificate.get_by_role("button", name="Done").click()
    expect(page.get_by_role("dialog", name="Correction").get_by_text("Forgotten (rebuild)")).to_be_visible()
    page.keyboard.press("Escape")
    assert ask(page, ASKED, "nothing")[0] != RIGHT

    page.keyboard.press("Escape")
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("grid").locator("tbody")).to_contain_text("succeeded")
    page.screenshot(path=shots / "11-jobs.png")
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("grid").locator("tbody")).to_contain_text("rollback")
    expect(page.get_by_text("chain holds")).to_be_visible()
    page.screenshot(path=shots / "12-audit.png")
    page.get_by_role("grid").get_by_text("forget", exact=True).click()
    page.get_by_role("button", name="Show the certificate").click()
    expect(page.get_by_role("dialog", name="Certificate of forgetting")).to_contain_text(record["id"])
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")

    token = context.cookies()[0]
    assert token["httpOnly"]
    assert token["sameSite"] == "Strict"
    watched.quiet(url, ADMIN_KEY, token["value"])
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert context.cookies() == []
    watched.quiet(url, ADMIN_KEY, token["value"])


PAGES = (
    "overview",
    "corrections",
    "ask",
    "probes",
    "probes/{probes}",
    "versions",
    "versions/find",
    "versions/branches",
    "versions/bundles",
    "forget",
    "jobs",
    "audit",
    "settings",
    "settings/webhooks",
)


@pytest.fixture(scope="module")
def furnished(lab) -> dict[str, str]:
    """A bank with a past: in every state that a correction, a version or a job can have. Ids that stand in addresses."""
    lab.call("POST", "/v1/banks", {"name": "support"}, expect=201)
    for situation, right, wrong in (*LESSONS, (PIN, RIGHT, None)):
        lesson = {"input": situation, "right": right, "bank": "support", "session_id": "chat-7", "metadata": {"ticket": 4711}}
        lab.call("POST", "/v1/corrections", lesson | ({"wrong": wrong} if wrong else {}), expect=201)
    saved = lab.call(
        "POST", "/v1/snapshots", {"bank": "support", "label": "approved", "note": "Read by the team.", "pin": True}, expect=201
    )
    lab.call("POST", "/v1/corrections", {"bank": "support", "input": PIN, "right": WRONG, "wrong": RIGHT}, expect=201)
    lab.call("POST", "/v1/rollback", {"bank": "support", "to": saved["id"]}, expect=200)
    gone = lab.call("GET", "/v1/corrections?bank=support", expect=200)["items"][1]["id"]
    lab.finished(lab.call("POST", "/v1/forget", {"bank": "support", "corrections": [gone], "mode": "rebuild"}, expect=202)["job_id"])
    lab.finished(lab.call("POST", "/v1/consolidations", {"bank": "support"}, expect=202)["job_id"])
    doubted = {"bank": "support", "input": "Do you buy gold?", "right": "Yes, at any branch.", "session_id": "chat-8"}
    lab.call("POST", "/v1/corrections", doubted, expect=201)
    hold = {"bank": "support", "source": {"session_id": "chat-8"}, "reason": "Nobody at the bank said so."}
    lab.finished(lab.call("POST", "/v1/quarantine", hold, expect=202)["job_id"])
    for place in range(60):
        lesson = {
            "bank": "support",
            "input": f"Question {place} about the monthly statement of account number {place}",
            "right": f"See page {place}.",
        }
        lab.call("POST", "/v1/corrections", lesson, expect=201)
    again = lab.call("POST", "/v1/snapshots", {"bank": "support", "label": "after the move"}, expect=201)
    lab.finished(lab.call("POST", f"/v1/snapshots/{again['id']}/export", {"bank": "support"}, expect=202)["job_id"])
    lab.call("POST", "/v1/branches", {"bank": "support", "name": "support-try"}, expect=201)
    probes = [{"input": LESSONS[1][0], "expected": LESSONS[1][1]}, {"input": "Do you buy gold?", "expected": None}]
    probes += [{"input": f"Question {place} about the monthly statement", "expected": f"See page {place}."} for place in range(8)]
    made = lab.call("POST", "/v1/probe-sets", {"bank": "support", "name": "Before each release", "probes": probes}, expect=201)
    nobody = {"url": "http://127.0.0.1:9/hooks/memory", "events": ["snapshot.created", "rollback.done"]}
    lab.call("POST", "/v1/webhooks", nobody, expect=201)
    return {"probes": made["id"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_every_page_is_accessible_fits_and_is_quiet(browser, url, furnished, scheme, size, shots):
    context = browser.new_context(color_scheme=scheme, viewport=size, locale="en-GB", reduced_motion="reduce")
    watched = Watched(context)
    page = sign_in(watched, url)
    for name in PAGES:
        page.goto(f"{url}/console#/support/{name.format(**furnished)}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if name == "ask":
            page.get_by_label("Question or situation").fill(ASKED)
            page.keyboard.press("Enter")
            expect(page.locator(".side .said")).not_to_have_count(0)
            page.get_by_role("button", name="Why?").first.click()
            expect(page.locator(".why .carriers li")).not_to_have_count(0)
        if name == "probes/{probes}":
            page.get_by_role("button", name="Ask 10 questions").click()
            expect(page.get_by_role("region", name="Answers by version")).to_be_visible()
        if name == "versions/find":
            page.get_by_label("Question", exact=True).fill(ASKED)
            expect(page.locator(".side")).to_have_count(2)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(350)
        watched.accessible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], f"{name} scrolls sideways"
        shot = f"{name.partition('{')[0].strip('/').replace('/', '-')}{'-one' if '{' in name else ''}"
        page.screenshot(path=shots / f"{shot}-{scheme}-{'phone' if size is PHONE else 'desk'}.png", full_page=True)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    watched.accessible()
    watched.quiet(url, ADMIN_KEY)
    context.close()


def test_page_is_built_in_a_moment(context, url, furnished):
    page = sign_in(Watched(context), url)
    metrics = context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        """Seconds of a processor that the browser has worked on the page."""
        return next(one["value"] for one in metrics.send("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")

    taken = {}
    for name in PAGES:
        before = busy()
        page.goto(f"{url}/console#/support/{name.format(**furnished)}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        taken[name] = busy() - before
    assert statistics.median(taken.values()) < 0.2, taken


def test_theme_is_chosen_and_kept(context, url):
    watched = Watched(context)
    page = sign_in(watched, url)
    behind = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(behind)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    dark = page.evaluate(behind)
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Theme")).to_be_visible()
    assert page.evaluate(behind) == dark
    watched.quiet(url)


def test_table_is_walked_with_the_keyboard(context, url, furnished):
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/support/corrections")
    rows = page.get_by_role("grid").locator("tbody tr")
    expect(rows).to_have_count(50)
    assert page.evaluate("document.querySelectorAll('tbody [tabindex=\"0\"]').length") == 1, "the table is one stop for Tab"
    rows.first.focus()
    for key, place in (("ArrowDown", 1), ("j", 2), ("k", 1), ("End", 49), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        expect(rows.nth(place)).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.get_by_text("2 corrections marked")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Correction")).to_be_visible()
    page.keyboard.press("Escape")
    expect(rows.nth(1)).to_be_focused()
    page.get_by_role("button", name="More corrections").click()
    expect(rows).to_have_count(66)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("swallowed")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Measure strength").click()
    expect(rows.get_by_role("meter")).to_have_count(1)
    page.get_by_role("searchbox").fill("")
    for status in ("rolled_back", "quarantined"):
        page.get_by_label("Status").select_option(status)
        expect(rows).to_have_count(1)
        expect(rows.locator(".chip")).to_have_text(status.replace("_", " "))
    watched.quiet(url)


def test_source_is_held_and_let_go_again(context, url, lab, shots):
    bank_of(lab, "held", (PIN, RIGHT))
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/held/forget")
    expect(page.get_by_text("Nothing is held.")).to_be_visible()
    page.get_by_role("button", name="Hold a source").click()
    page.get_by_label("Name of the session").fill("chat-1")
    page.get_by_label("Reason (optional)").fill("It may have been made up.")
    watched.accessible()
    page.screenshot(path=shots / "13-hold.png")
    page.get_by_role("dialog").get_by_role("button", name="Hold").click()
    row = page.get_by_role("grid").locator("tbody tr")
    expect(row).to_contain_text("session chat-1")
    expect(row).to_contain_text("held")
    assert ask(page, PIN, "nothing") == ["It would stay silent."]
    assert lab.call("GET", "/v1/corrections?bank=held", expect=200)["items"][0]["status"] == "quarantined"
    page.get_by_role("link", name="Forget").click()
    page.get_by_role("button", name="Lift session chat-1").click()
    expect(row).to_contain_text("lifted")
    assert ask(page, PIN, "nothing") == [RIGHT]
    watched.quiet(url)


def test_what_came_since_the_preview_is_not_forgotten_unseen(context, url, lab):
    first, second = bank_of(lab, "source", (PIN, RIGHT), LESSONS[1][:2])
    hold = {"bank": "source", "source": {"session_id": "chat-1"}}
    held = lab.call("POST", "/v1/quarantine", hold, expect=202)
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/source/forget")
    page.get_by_role("button", name="Forget session chat-1").click()
    dialog = page.get_by_role("dialog", name="Forget all from session chat-1")
    expect(dialog.get_by_text("2 corrections would be forgotten")).to_be_visible()
    lab.call("DELETE", f"/v1/quarantine/{held['id']}", expect=202)
    third = lab.call("POST", "/v1/corrections", hold["source"] | {"bank": "source", "input": "And now?", "right": "Now, too."}, expect=201)
    dialog.get_by_label("Type source to confirm").fill("source")
    dialog.get_by_role("button", name="Rebuild").click()
    expect(dialog.get_by_role("alert")).to_contain_text("conflict")
    expect(dialog.get_by_text("3 corrections would be forgotten")).to_be_visible()
    assert {one["status"] for one in lab.call("GET", "/v1/corrections?bank=source", expect=200)["items"]} == {"active"}
    dialog.get_by_role("button", name="Rebuild").click()
    certificate = page.get_by_role("dialog", name="Certificate of forgetting")
    expect(certificate.get_by_text("complete", exact=True)).to_be_visible()
    gone = [one["id"] for one in lab.call("GET", "/v1/corrections?bank=source", expect=200)["items"] if one["status"] == "forgotten"]
    assert gone == [first, second, third["id"]]


def test_version_is_labelled_and_pinned_later(context, url, lab):
    bank_of(lab, "labels", (PIN, RIGHT))
    saved = lab.call("POST", "/v1/snapshots", {"bank": "labels"}, expect=201)
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/labels/versions")
    article = page.get_by_role("article", name="manual at 1")
    article.get_by_role("button", name="Label or pin…").click()
    page.get_by_label("Label", exact=True).fill("approved")
    page.get_by_label("Pin it").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("article", name="approved")).to_contain_text("pinned")
    page.get_by_role("article", name="approved").get_by_role("button", name="Label or pin…").click()
    expect(page.get_by_label("Pin it")).to_be_checked()
    page.get_by_label("Label", exact=True).fill("")
    page.get_by_label("Pin it").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(article).to_be_visible()
    told = lab.call("GET", f"/v1/snapshots/{saved['id']}?bank=labels", expect=200)
    assert (told["label"], told["pinned"]) == (None, False)
    watched.quiet(url)


def test_audit_that_was_changed_is_told_so(context, url, lab):
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/default/audit")
    expect(page.get_by_text("chain holds")).to_be_visible()
    with sqlite3.connect(lab.service.settings.var_dir / "palimpsest.db") as database:
        (actor,) = database.execute("SELECT actor FROM audit WHERE seq = 2").fetchone()
        database.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 2")
    page.get_by_role("button", name="Verify again").click()
    expect(page.get_by_text("chain broken")).to_be_visible()
    expect(page.get_by_text("Entry 2 was changed.")).to_be_visible()
    with sqlite3.connect(lab.service.settings.var_dir / "palimpsest.db") as database:
        database.execute("UPDATE audit SET actor = ? WHERE seq = 2", (actor,))
    page.get_by_role("button", name="Verify again").click()
    expect(page.get_by_text("chain holds")).to_be_visible()


def test_first_tab_skips_to_the_page(context, url):
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console")
    page.get_by_role("navigation").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_single_letters_can_be_switched_off(context, url):
    page = sign_in(Watched(context), url)
    page.keyboard.press("?")
    page.get_by_label("Single letters are commands").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_wrong_key_is_told_so_and_left_nowhere(context, url):
    watched = Watched(context)
    page = watched.page
    page.goto(f"{url}/console")
    page.get_by_label("API key").fill("pal_nobody_has_this_key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Nobody has this key")
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.get_by_label("API key")).to_have_value("")
    assert context.cookies() == []
    assert "nobody_has" not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")


def test_revoked_key_leads_back_to_the_form(context, url, lab):
    minted = lab.call("POST", "/v1/keys", {"name": "visitor", "scopes": ["memory:inspect"]}, expect=201)
    page = sign_in(Watched(context), url, minted["key"])
    assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == [
        "Overview\ng o",
        "Corrections\ng c",
        "Ask\ng a",
        "Probes\ng p",
        "Jobs\ng j",
    ]
    lab.call("DELETE", f"/v1/keys/{minted['id']}", expect=200)
    page.evaluate("location.hash = '#/default/corrections'")  # a request of the page before may have led back already
    expect(page.get_by_label("API key")).to_be_visible()
