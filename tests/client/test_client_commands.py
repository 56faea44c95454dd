"""The commands of a client against a running service."""

import contextlib
import json
import os
import pty
import re
import resource
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from click.testing import CliRunner, Result
from doors import Door, Told, told
from fixtures_service import ADMIN_KEY
from saying import PIN, SPAIN
from waiting import PATIENCE_S

from palimpsest import Client, errors
from palimpsest.cli import main
from palimpsest.cli.reaching import clean

pytestmark = pytest.mark.timeout(900)  # the first setup loads the encoder
REWORDED = "How can I change the PIN of my card?"


@pytest.fixture
def run(url, bank, tmp_path, monkeypatch):
    """Runs `palimpsest` with words, in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def running(*words: str, said: str = "", expect: int = 0, **environ: str) -> Result:
        given = {"PALIMPSEST_URL": url, "PALIMPSEST_KEY": ADMIN_KEY, "PALIMPSEST_BANK": bank, **environ}
        ran = CliRunner().invoke(main, words, input=said, env={name: value or None for name, value in given.items()})
        assert ran.exit_code == expect, (ran.stdout, ran.stderr, ran.exception)
        assert ran.exception is None or isinstance(ran.exception, SystemExit)
        return ran

    return running


def typed(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "palimpsest", *words], capture_output=True, text=True, timeout=PATIENCE_S, env={**os.environ, **environ}
    )


def test_story_of_a_memory_as_commands(run, memory):
    assert run("ask", PIN, expect=3).stderr == "nothing is remembered\n"
    taught = run("teach", PIN, "in the app", "--paraphrase", REWORDED, "--session", "chat-7").stdout
    assert "was: nothing  now: in the app  paraphrases right: 1 of 1" in taught
    assert run("ask", REWORDED).stdout == "in the app\n"
    label = run("snapshots", "take", "--label", "before").stdout
    saved = label.split()[0]
    run("teach", PIN, "at any cash machine", "--wrong", "in the app")
    assert run("ask", REWORDED).stdout == "at any cash machine\n"
    assert run("ask", REWORDED, "--at", saved).stdout == "in the app\n"
    probed = run("probe", REWORDED, "--at", "head", "--at", saved).stdout
    assert re.search(rf"head\s+\S+  at any cash machine\n.*{saved}\s+\S+  in the app", probed)
    assert "before" in run("snapshots", "list").stdout
    assert run("rollback", saved, "--dry-run").stdout.startswith("2 of 2 answers would change\n")
    asked = run("rollback", saved, said="n\n", expect=1)
    assert "2 of 2 answers would change" in asked.stderr
    assert run("ask", REWORDED).stdout == "at any cash machine\n"
    undo = run("rollback", saved, said="y\n").stdout
    assert run("ask", REWORDED).stdout == "in the app\n"
    run("rollback", undo.split()[-1], "--yes")
    listed = run("corrections").stdout.splitlines()
    assert [line.split()[1] for line in listed] == ["superseded", "active"]
    newer = next(one for one in memory.corrections() if one.status == "active")
    assert "forgotten" in run("forget", newer.id, "--wait").stdout
    assert run("ask", REWORDED).stdout == "in the app\n"
    jobs = run("jobs", "list").stdout.splitlines()
    assert "succeeded" in jobs[-1]
    assert run("jobs", "wait", jobs[-1].split()[0]).stdout == run("jobs", "show", jobs[-1].split()[0]).stdout
    assert run("jobs", "cancel", jobs[-1].split()[0], expect=1).stderr.startswith("Error: conflict")
    assert len(run("corrections", "--limit", "1").stdout.splitlines()) == 1


def test_replies_are_json_for_programs(run):
    taught = json.loads(run("teach", PIN, "in the app", "--json").stdout)
    assert taught["receipt"]["item"]["after"]["value"] == "in the app"
    asked = json.loads(run("ask", REWORDED, "--json", "--explain").stdout)
    assert asked["answers"][0]["support"] == [taught["id"]]
    assert json.loads(run("ask", "What colour is the sea?", "--json", expect=3).stdout)["abstained"] is True
    assert [json.loads(line)["id"] for line in run("corrections", "--json").stdout.splitlines()] == [taught["id"]]
    assert json.loads(run("probe", PIN, "--json").stdout)["answers"]["head"]["value"] == "in the app"
    assert json.loads(run("diff", run("snapshots", "list").stdout.split()[0], "--json").stdout)["gained_total"] == 1


def test_what_was_taught_does_nothing_to_a_terminal(run):
    run("teach", PIN, "red \x1b[31mred\x07 \u202eback")
    assert run("ask", PIN).stdout == "red \\x1b[31mred\\x07 \\u202eback\n"
    assert "\x1b" not in run("corrections").stdout
    ordinary = "text\tä€😀\xa0日本\u3000語\n"
    assert clean(ordinary) == ordinary


def test_refusals_are_told_in_one_line(run):
    gone = "http://127.0.0.1:9"
    assert "cannot be reached" in run("ask", PIN, PALIMPSEST_URL=gone, expect=1).stderr
    assert run("ask", PIN, PALIMPSEST_KEY="pal_nobody", expect=1).stderr.startswith("Error: unauthenticated: ")
    assert "no API key" in run("ask", PIN, PALIMPSEST_URL="", PALIMPSEST_KEY="", expect=1).stderr
    assert run("ask", " ", expect=1).stderr.startswith("Error: validation: input")
    assert "there is no profile 'work'" in run("ask", PIN, "--profile", "work", expect=1).stderr


def test_difference_of_two_snapshots_is_told_in_words(run, memory):
    gone = memory.correct(SPAIN, "a day", session_id="chat-7")
    memory.correct(PIN, "in the app")
    before = memory.take_snapshot().id
    memory.correct(PIN, "at any cash machine")
    after = memory.take_snapshot().id
    told = run("diff", before, after).stdout.splitlines()
    assert re.match(r"1 gained, 0 lost, \d of \d answers differ", told[0])
    assert re.match(rf"\+ cor_\S+  {re.escape(PIN)}  →  at any cash machine", told[1])
    assert f"  {PIN}: in the app  →  at any cash machine" in told
    assert told[-1].startswith("drift of the levels: ")
    memory.forget([gone.id]).wait()
    assert f"- {gone.id}  (forgotten, or in quarantine)" in run("diff", after).stdout


def test_snapshot_is_verified_and_carried_as_a_file(run, memory, tmp_path):
    memory.correct(PIN, "in the app")
    saved = memory.take_snapshot().id
    assert all(line.startswith("ok") for line in run("snapshots", "verify", saved).stdout.splitlines())
    assert f"{saved} in bundle.tar" in run("snapshots", "export", saved, "bundle.tar", "--ledger").stdout
    assert "answers as it did: 1 of 1" in run("snapshots", "import", "bundle.tar").stdout
    (tmp_path / "bundle.tar").write_bytes(b"no bundle")
    assert "bundle-refused" in run("snapshots", "import", "bundle.tar", expect=1).stderr


def test_what_a_session_taught_is_rolled_back_or_forgotten_as_a_whole(run, memory):
    memory.correct(PIN, "in the app")
    moment = datetime.now(UTC)
    for place in range(3):
        memory.correct(f"question {place}", "wrong", session_id="chat-7")
    assert "3 corrections leave the weights, 0 come back" in run("rollback", "--session", "chat-7", "--dry-run").stdout
    undo = run("rollback", "--session", "chat-7", "--yes").stdout.split()[-1]
    assert memory.recall("question 1").value is None
    run("rollback", undo, "--yes")
    assert "3 corrections leave" in run("rollback", "--time", f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z", "--dry-run").stdout
    assert "name either corrections or a source" in run("forget", expect=1).stderr
    assert "3 forgotten" in run("forget", "--session", "chat-7", "--wait").stdout
    assert "give one of to, to_time and source" in run("rollback", "--yes", expect=1).stderr


def test_erasing_is_asked_about(run, memory):
    taught = memory.correct(PIN, "in the app")
    asked = run("forget", taught.id, "--mode", "erase", said="n\n", expect=1)
    assert "1 of 1 answers would change" in asked.stderr
    assert "Erase 1 corrections" in asked.stderr
    assert memory.recall(PIN).value == "in the app"
    run("forget", taught.id, "--mode", "erase", "--yes", "--wait")
    assert memory.get_correction(taught.id).input is None


NOTHING = {"PALIMPSEST_URL": "", "PALIMPSEST_KEY": "", "PALIMPSEST_BANK": ""}


def test_profiles_name_service_key_and_bank_and_are_private(run, url, bank, tmp_path):
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config"), **NOTHING}
    added = run("profile", "add", 'the "test"', "--url", url, "--bank", bank, said=f"{ADMIN_KEY}\n", **config)
    assert ADMIN_KEY not in added.stdout
    file = tmp_path / "config" / "palimpsest" / "config.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    run("profile", "add", "other", "--url", url, said=f"{ADMIN_KEY}\n", **config)
    run("teach", PIN, "in the app", **config)
    assert run("ask", PIN, **config).stdout == "in the app\n"
    assert run("ask", PIN, "--profile", "other", expect=3, **config).stdout == ""
    run("profile", "use", "other", **config)
    assert run("profile", "list", **config).stdout == f'* other  {url}\n  the "test"  {url}  {bank}\n'
    assert run("ask", PIN, **{**config, "PALIMPSEST_PROFILE": 'the "test"'}).stdout == "in the app\n"
    run("profile", "remove", "other", **config)
    assert "other" not in file.read_text()
    file.chmod(0o644)
    assert "chmod 600" in run("ask", PIN, expect=1, **config).stderr


def test_profile_whose_key_does_not_work_is_not_kept(run, url, tmp_path):
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config"), **NOTHING}
    refused = run("profile", "add", "wrong", "--url", url, said="pal_nobody\n", expect=1, **config)
    assert "unauthenticated" in refused.stderr
    assert run("profile", "list", **config).stdout == ""


def test_key_of_a_profile_goes_to_no_other_address(run, url, tmp_path):
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config"), **NOTHING}
    run("profile", "add", "home", "--url", url, said=f"{ADMIN_KEY}\n", **config)
    with Door(lambda _: told()) as elsewhere:
        assert "no API key" in run("ask", PIN, "--url", elsewhere.url, expect=1, **config).stderr
        assert "--profile says" in run("ask", PIN, "--url", elsewhere.url, "--profile", "home", expect=2, **config).stderr
        assert elsewhere.asked == []


def test_export_and_import_are_an_exact_round_trip(run, memory, url, tmp_path):
    items = [{"input": f'question {place} ü\n"', "right": f"answer {place % 7}"} for place in range(120)]
    items[3] |= {"wrong": "nothing", "session_id": "chat-7", "metadata": {"z": [1.5, None], "a": {"ü": True}}}
    memory.correct_many(items)
    gone = memory.correct(SPAIN, "a day")
    memory.correct(items[0]["input"], "another answer")
    memory.forget([gone.id], "rebuild").wait()
    assert "121 corrections" in run("export", "one.jsonl").stdout
    with Client(url, api_key=ADMIN_KEY) as admin:
        other = admin.create_bank(f"other of {memory.bank}").name
    assert "121 corrections" in run("import", "one.jsonl", PALIMPSEST_BANK=other).stdout
    run("export", "two.jsonl", PALIMPSEST_BANK=other)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert memory.memory(bank=other).digest == memory.memory().digest
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["one.jsonl", "two.jsonl"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"input": "x"}', "line 2 cannot be taught, nothing was sent: Object missing required field `right`"),
        ('{"input": "x", "right": "y", "rigth": "z"}', "unknown field `rigth`"),
        ("", "line 2"),
        ("no json", "line 2"),
    ],
)
def test_file_with_a_fault_is_refused_before_anything_is_taught(run, memory, tmp_path, line, said):
    (tmp_path / "in.jsonl").write_text(f'{{"input": "a", "right": "b"}}\n{line}\n{{"input": "c", "right": "d"}}\n')
    assert said in run("import", "in.jsonl", expect=1).stderr
    assert list(memory.corrections()) == []


def test_import_that_was_broken_off_anywhere_goes_on_and_teaches_every_line_once(run, memory, url, tmp_path):
    lines = [json.dumps({"input": f"question {place}", "right": f"answer {place}"}) for place in range(350)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    for cut in (2, 1):  # requests for corrections that are let through; the answer to the last of them never arrives

        def answer(asked, cut=cut):
            if asked.path.endswith("/batch") and sum(one.path.endswith("/batch") for one in door.asked) > cut:
                return None
            got = httpx.request(asked.method, url + asked.path, content=asked.body, headers={
                name: value for name, value in asked.headers.items() if name in ("authorization", "idempotency-key")
            }, timeout=PATIENCE_S)  # fmt: skip
            lost = asked.path.endswith("/batch") and sum(one.path.endswith("/batch") for one in door.asked) == cut
            return None if lost else Told(got.status_code, got.content)

        with Door(answer) as door:
            assert "cannot be reached" in run("import", "in.jsonl", PALIMPSEST_URL=door.url, expect=1).stderr
        assert (tmp_path / "in.jsonl.progress").exists()
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    assert "350 corrections" in run("import", "in.jsonl").stdout
    assert [one.input for one in memory.corrections()] == [f"question {place}" for place in range(350)]
    assert not (tmp_path / "in.jsonl.progress").exists()


def test_import_does_not_go_on_in_another_bank_or_with_changed_lines(run, memory, url, tmp_path):
    lines = [json.dumps({"input": f"question {place}", "right": "yes"}) for place in range(101)]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines[:-1], '{"input": " ", "right": "x"}']))
    refused = run("import", "in.jsonl", expect=1).stderr
    assert "items[0] is line 101; 100 lines are taught" in refused
    assert "of an import into another bank" in run("import", "in.jsonl", PALIMPSEST_BANK="default", expect=1).stderr
    (tmp_path / "in.jsonl").write_text("\n".join([lines[1], *lines[1:]]))
    assert "have changed since" in run("import", "in.jsonl", expect=1).stderr
    assert len(list(memory.corrections())) == 100


def test_people_see_a_progress_bar(run, memory, tmp_path, url, bank):
    memory.correct(PIN, "in the app")
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, 80))  # a new one has no columns
    environ = {**os.environ, "PALIMPSEST_URL": url, "PALIMPSEST_KEY": ADMIN_KEY, "PALIMPSEST_BANK": bank}
    words = [sys.executable, "-m", "palimpsest", "export", "out.jsonl"]
    subprocess.run(words, cwd=tmp_path, env=environ, stderr=child, stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE_S)
    os.close(child)
    assert b"100%" in b"".join(written(parent))
    os.close(parent)


def written(terminal: int) -> Iterator[bytes]:
    """What has been written to a terminal whose other end is closed."""
    with contextlib.suppress(OSError):  # its end
        while True:
            yield os.read(terminal, 100_000)


def test_one_command_has_what_asks_and_what_runs(run):
    helped = run("--help").stdout
    asking, running = helped.split("Run the service:")
    assert {"teach", "ask", "diff", "import", "rollback", "jobs", "mcp"} <= set(re.findall(r"^  (\S+) ", asking, re.MULTILINE))
    assert {"serve", "worker", "doctor", "migrate", "key"} <= set(re.findall(r"^  (\S+) ", running, re.MULTILINE))
    assert "No such command" in run("taech", expect=2).stderr


def test_jobs_without_a_further_word_still_runs_those_of_a_cluster(tmp_path):
    assert "--queue" in typed("jobs", "--help").stdout
    ran = typed("jobs", PALIMPSEST_VAR_DIR=str(tmp_path / "var"))
    assert (ran.returncode, "PALIMPSEST_REDIS" in ran.stderr) == (1, True), ran.stderr


def test_command_in_a_process_of_its_own_asks_the_service(url, bank, memory):
    memory.correct(PIN, "in the app")
    ran = typed("ask", REWORDED, PALIMPSEST_URL=url, PALIMPSEST_KEY=ADMIN_KEY, PALIMPSEST_BANK=bank)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "in the app\n", "")


@pytest.mark.serial
def test_commands_of_a_client_start_quickly():
    def used() -> float:
        """Seconds of processors that ended processes of ours had: what the machine does beside does not count."""
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    times = []
    for _ in range(3):
        begin = used()
        assert typed("ask", "--help").returncode == 0
        times.append(used() - begin)
    assert min(times) < 1.5


def test_name_of_a_profile_that_is_not_there_is_an_error_of_its_own():
    from palimpsest.cli.profiles import Profiles

    with pytest.raises(errors.NotConfigured):
        Profiles().named("x")
