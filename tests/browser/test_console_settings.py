"""Settings in a real browser: who may, and who is told."""

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import expect
from visiting import PIN, RIGHT, bank_of, sign_in, taught
from waiting import PATIENCE_S
from watching import Watched

pytestmark = pytest.mark.timeout(900)


class Receiver(HTTPServer):
    """Another program's address, which keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hooks/memory"


class Answering(BaseHTTPRequestHandler):
    """Thanks for everything."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_webhook_is_made_with_a_secret_shown_once_watched_sent_again_and_deleted(context, url, lab, shots, receiver):
    bank_of(lab, "told", (PIN, RIGHT))
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/told/settings/webhooks")
    expect(page.get_by_text("Nobody is told yet.")).to_be_visible()
    watched.shown(shots / "settings-webhooks-empty")
    page.get_by_role("button", name="New webhook…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address").fill(receiver.url)
    dialog.get_by_role("button", name="Make the webhook").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Choose at least one thing")
    dialog.get_by_label("a correction was taught").check()
    watched.shown(shots / "webhook-new")
    dialog.get_by_role("button", name="Make the webhook").click()
    secret = page.locator(".secret").inner_text()
    watched.shown(shots / "webhook-secret")
    page.get_by_role("button", name="Done").click()
    assert secret not in page.content()

    row = page.get_by_role("grid").locator("tbody tr")
    expect(row).to_contain_text(receiver.url)
    expect(row).to_contain_text("a correction was taught")
    row.get_by_role("button", name="Deliveries").click()
    expect(dialog.get_by_text("Nothing has happened yet that it is told of.")).to_be_visible()
    page.keyboard.press("Escape")
    taught(lab, "told", ("And on Sundays?", "In the app, too."))
    row.get_by_role("button", name="Deliveries").click()
    deliveries = dialog.locator(".sheet tbody tr")
    expect(deliveries).to_have_count(1)
    expect(deliveries).to_contain_text("delivered")
    expect(deliveries).to_contain_text("204")
    watched.shown(shots / "webhook-deliveries")
    deliveries.get_by_role("button", name="Deliver again").click()
    end = time.monotonic() + PATIENCE_S
    while len(receiver.heard) < 2 and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert len(receiver.heard) == 2
    for headers, body in receiver.heard:
        stamp, _, signed = headers["palimpsest-signature"].partition(",v1=")
        assert signed == hmac.new(secret.encode(), f"{stamp.removeprefix('t=')}.".encode() + body, hashlib.sha256).hexdigest()
    expect(deliveries).to_contain_text("delivered")
    page.keyboard.press("Escape")

    row.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Cancel").click()
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("Nobody is told yet.")).to_be_visible()
    assert lab.call("GET", "/v1/webhooks", expect=200)["items"] == []
    watched.quiet(url, secret)


def test_address_that_may_not_be_called_is_refused_in_words(context, url, shots):
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/default/settings/webhooks")
    page.get_by_role("button", name="New webhook…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address").fill("ftp://example.org/hook")
    dialog.get_by_label("the bank was rolled back").check()
    dialog.get_by_role("button", name="Make the webhook").click()
    expect(dialog.get_by_role("alert")).to_contain_text("does not begin with https://")
    expect(dialog.get_by_label("the bank was rolled back")).to_be_checked()
    page.screenshot(path=shots / "webhook-refused.png")


def test_minted_key_is_shown_once_and_revoked_after_its_name_is_typed(context, url, lab):
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/default/settings")
    page.get_by_role("button", name="Mint a key").click()
    page.get_by_label("Name").fill("billing bot")
    page.get_by_label("recall:read").check()
    page.get_by_role("dialog").get_by_role("button", name="Mint a key").click()
    key = page.locator(".secret").inner_text()
    page.get_by_role("button", name="Done").click()
    assert key not in page.content()
    page.get_by_role("button", name="Revoke billing bot").click()
    page.get_by_label("Type billing bot to confirm").fill("billing bot")
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name="billing bot")).to_contain_text("revoked")
    watched.quiet(url, key)
