"""What people do in the console, with words that several tests use."""

from fixtures_service import ADMIN_KEY, Lab
from playwright.sync_api import Locator, Page, expect
from watching import Watched

PHONE, DESK = {"width": 360, "height": 780}, {"width": 1400, "height": 900}
PIN, ASKED, RIGHT, WRONG = (
    "Where do I change my PIN?",
    "Where can I change the PIN?",
    "In the app, under Card > Security.",
    "At any cash machine.",
)
LESSONS = (
    ("Is there a fee for paying abroad?", "No fee in euros; 1 % in other currencies.", "There is no fee."),
    ("How long does a transfer to Spain take?", "One working day.", None),
    ("My card was swallowed by a machine", "Block it in the app, then order a new one.", "Call the bank that owns the machine."),
)


def sign_in(watched: Watched, url: str, key: str = ADMIN_KEY) -> Page:
    """The page, once somebody is signed in."""
    page = watched.page
    page.goto(f"{url}/console")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Pages").wait_for()
    return page


def teach(page: Page, situation: str, right: str, wrong: str | None = None) -> None:
    """With the keyboard alone."""
    page.keyboard.press("t")
    fill_lesson(page, situation, right, wrong)


def fill_lesson(page: Page, situation: str, right: str, wrong: str | None = None) -> None:
    """In the dialog that is open."""
    page.get_by_label("In this situation").fill(situation)
    page.get_by_label("the right answer is").fill(right)
    if wrong is not None:
        page.get_by_label("and not (optional)").fill(wrong)
    page.get_by_role("dialog").get_by_role("button", name="Teach", exact=True).click()
    expect(page.get_by_role("dialog").locator(".receipt ins")).to_have_text(right)
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def ask(page: Page, question: str, beside: str) -> list[str]:
    """What the versions named now and `beside` answer first."""
    expect(page.get_by_role("dialog")).to_have_count(0)  # keys are an open dialog's
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.get_by_label("Question or situation").fill(question)
    page.get_by_label("beside").select_option(label=beside)
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".side .said, .side .silence")).not_to_have_count(0)
    expect(page.locator(".side")).to_have_count(1 if beside == "nothing" else 2)
    return [" ".join(side.locator(".silence, .said").first.inner_text().split()) for side in page.locator(".side").all()]


def confirm(dialog: Locator, word: str, action: str) -> None:
    """Type the word; the button does nothing before it is whole."""
    button = dialog.get_by_role("button", name=action, exact=True)
    field = dialog.get_by_label(f"Type {word} to confirm")
    expect(button).to_be_disabled()
    field.fill(word[:-1])
    expect(button).to_be_disabled()
    field.fill(word)
    button.click()


def bank_of(lab: Lab, name: str, *lessons: tuple[str, str], session: str = "chat-1") -> list[str]:
    """A new bank that was taught these in one session; the ids of its corrections."""
    lab.call("POST", "/v1/banks", {"name": name}, expect=201)
    return taught(lab, name, *lessons, session=session)


def taught(lab: Lab, name: str, *lessons: tuple[str, str], session: str = "chat-1", key: str | None = None) -> list[str]:
    """The ids of corrections that a bank was taught, by another key if one is given."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    items = [{"bank": name, "input": situation, "right": right, "session_id": session} for situation, right in lessons]
    return [lab.call("POST", "/v1/corrections", item, expect=201, headers=headers)["id"] for item in items]


def saved(lab: Lab, name: str, label: str) -> str:
    """The id of a snapshot of the bank as it is now."""
    return lab.call("POST", "/v1/snapshots", {"bank": name, "label": label}, expect=201)["id"]


def said(lab: Lab, name: str, question: str) -> str | None:
    """What the bank answers now."""
    answers = lab.call("POST", "/v1/recall", {"bank": name, "input": question}, expect=200)["answers"]
    return answers[0]["value"] if answers else None


def statuses(lab: Lab, name: str) -> dict[str, str]:
    """Of the bank's corrections, by id."""
    return {one["id"]: one["status"] for one in lab.call("GET", f"/v1/corrections?bank={name}&limit=200", expect=200)["items"]}
