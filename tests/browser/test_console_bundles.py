"""Bundles in a real browser: a version leaves as a file and comes back as a candidate; what is none is refused in words."""

import io
import pickle
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from visiting import LESSONS, PIN, RIGHT, WRONG, bank_of, confirm, said, saved, sign_in, taught
from watching import Watched

pytestmark = pytest.mark.timeout(900)


def exported(page: Page, label: str) -> bytes:
    """The bundle of a version, made and downloaded."""
    page.get_by_label("Version", exact=True).select_option(label=label)
    page.get_by_label("with the corrections up to it").check()
    page.get_by_role("button", name="Make a bundle").click()
    expect(page.get_by_text("It is ready")).to_be_visible()
    with page.expect_download() as kept:
        page.get_by_role("button", name="Download").first.click()
    assert kept.value.suggested_filename.startswith("exp_")
    return Path(kept.value.path()).read_bytes()


def import_file(page: Page, folder: Path, data: bytes) -> None:
    """A file on the visitor's disk."""
    path = folder / "bundle.tar"
    path.write_bytes(data)
    page.get_by_label("Bundle", exact=True).set_input_files(path)
    page.get_by_role("button", name="Import").click()


def test_version_leaves_as_a_bundle_and_comes_back_as_a_candidate(context, url, lab, shots, tmp_path):
    bank_of(lab, "carried", (PIN, RIGHT), LESSONS[1][:2])
    saved(lab, "carried", "approved")
    taught(lab, "carried", (PIN, WRONG))
    watched = Watched(context)
    page = sign_in(watched, url)
    page.goto(f"{url}/console#/carried/versions/bundles")
    data = exported(page, "approved")
    with tarfile.open(fileobj=io.BytesIO(data)) as bundle:
        assert "ledger.jsonl" in bundle.getnames()
    before = lab.call("GET", "/v1/banks/carried", expect=200)["head"]
    import_file(page, tmp_path, data)
    expect(page.get_by_text("It is here as “import at 2”.")).to_be_visible()
    expect(page.get_by_text("it agrees in 2 of 2 questions")).to_be_visible()
    assert lab.call("GET", "/v1/banks/carried", expect=200)["head"] == before
    assert said(lab, "carried", PIN) == WRONG, "a candidate answers nobody"
    watched.shown(shots / "bundles", full_page=True)
    page.reload()
    expect(page.get_by_role("grid").locator("tbody tr")).to_contain_text("approved")
    import_file(page, tmp_path, data)
    page.get_by_role("button", name="Compare…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("1 answer differs")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Roll back to it…").click()
    expect(dialog.get_by_text("1 answer would change")).to_be_visible()
    confirm(dialog, "carried", "Roll back")
    expect(dialog.get_by_text("1 answer changed.")).to_be_visible()
    assert said(lab, "carried", PIN) == RIGHT
    watched.quiet(url)


class Command:
    """What a pickle would run."""

    def __reduce__(self) -> tuple:
        return (print, ("run",))


def test_what_is_no_bundle_of_this_bank_is_refused_in_words_and_nothing_changes(context, url, lab, shots, tmp_path):
    bank_of(lab, "careful", (PIN, RIGHT))
    saved(lab, "careful", "approved")
    bank_of(lab, "foreign", (PIN, RIGHT))
    saved(lab, "foreign", "of another bank")
    page = sign_in(Watched(context), url)
    page.goto(f"{url}/console#/foreign/versions/bundles")
    foreign = exported(page, "of another bank")
    page.goto(f"{url}/console#/careful/versions/bundles")
    good = exported(page, "approved")
    before = lab.call("GET", "/v1/snapshots?bank=careful", expect=200)["items"]
    changed = bytearray(good)
    changed[len(changed) // 2] ^= 1
    for data, why in (
        (bytes(changed), "was changed"),
        (good[:-2000], "cut off"),
        (foreign, "can be imported there and nowhere else"),
        (pickle.dumps(Command()), "not a bundle"),
        (b"", "The file is empty"),
        (bytes(64 * 1024 * 1024 + 1), "64.0 MiB at most"),
    ):
        import_file(page, tmp_path, data)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text(why)
        expect(alert).to_contain_text("Nothing was changed.")
    page.screenshot(path=shots / "bundle-refused.png", full_page=True)
    assert lab.call("GET", "/v1/snapshots?bank=careful", expect=200)["items"] == before
    import_file(page, tmp_path, good)
    expect(page.get_by_text("It is here as “import at 1”.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
