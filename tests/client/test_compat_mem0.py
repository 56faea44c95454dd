"""`/compat/mem0` used by the client of the real `mem0ai` package, and in the paths of mem0's own server."""

import httpx
import pytest
from fixtures_service import ADMIN_KEY
from saying import PIN
from waiting import PATIENCE_S

from palimpsest import Client

REWORDED = "How can I change the PIN of my card?"
FRANCE = "What is the capital of France?"
TURN = [{"role": "user", "content": PIN}, {"role": "assistant", "content": "in the app"}]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package, which is told before it is imported to report nothing and to keep its files elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEM0_TELEMETRY", "False")
        patch.setenv("MEM0_DIR", str(tmp_path_factory.mktemp("mem0")))
        yield pytest.importorskip("mem0")


@pytest.fixture
def host(url) -> str:
    return f"{url}/compat/mem0"


@pytest.fixture
def user(bank) -> str:
    """A user of the test's own."""
    return bank.removeprefix("bank ")


@pytest.fixture
def mem0(package, host):
    client = package.MemoryClient(api_key=ADMIN_KEY, host=host)
    yield client
    client.client.close()


@pytest.fixture
def plain(host):
    """A program that knows the paths of mem0's server."""
    with httpx.Client(base_url=host, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=PATIENCE_S) as client:
        yield client


def test_client_of_the_package_adds_searches_lists_updates_and_deletes(mem0, user):
    whose = {"filters": {"user_id": user}}
    assert mem0.search(REWORDED, **whose) == {"results": []}
    assert mem0.get_all(**whose)["results"] == []
    (added,) = mem0.add(TURN, user_id=user, metadata={"ticket": 4711}, infer=False)["results"]
    assert (added["memory"], added["event"]) == ("in the app", "ADD")
    (found,) = mem0.search(REWORDED, **whose)["results"]
    assert (found["id"], found["memory"], found["input"]) == (added["id"], "in the app", PIN)
    assert (found["metadata"], found["user_id"], 0.3 < found["score"] <= 1) == ({"ticket": 4711}, user, True)
    assert mem0.get(added["id"]) == found | {"score": None}
    updated = mem0.update(added["id"], text="at any cash machine")
    assert [each["memory"] for each in mem0.search(REWORDED, **whose)["results"]] == ["at any cash machine"]
    listed = mem0.get_all(**whose)
    assert (listed["count"], [each["id"] for each in listed["results"]], listed["next"]) == (1, [updated["id"]], None)
    past = [(each["event"], each["old_memory"], each["new_memory"]) for each in mem0.history(updated["id"])]
    assert past == [("ADD", None, "in the app"), ("UPDATE", "in the app", "at any cash machine")]
    mem0.delete(updated["id"])
    assert mem0.search(REWORDED, **whose)["results"] == mem0.get_all(**whose)["results"] == [], "nor does the older one come back"
    with pytest.raises(Exception, match=updated["id"]):
        mem0.get(updated["id"])
    mem0.delete(updated["id"])


def test_what_was_merely_said_stands_for_itself(mem0, user):
    mem0.add([{"role": "system", "content": "Be short."}, {"role": "user", "content": "I am allergic to peanuts."}], agent_id=user)
    (found,) = mem0.search("Which allergies do I have? Peanuts?", filters={"AND": [{"agent_id": user}]}, threshold=0.0)["results"]
    assert (found["memory"], found["input"], found["agent_id"]) == ("I am allergic to peanuts.", "I am allergic to peanuts.", user)
    assert mem0.search(FRANCE, filters={"agent_id": user})["results"] == [], "without a threshold the memory abstains"
    assert mem0.search("peanuts", filters={"user_id": user})["results"] == [], "a user is not an agent"


def test_negative_feedback_holds_a_memory_out_until_that_is_lifted(mem0, memory, user, url):
    (added,) = mem0.add(TURN, user_id=user)["results"]
    assert "nothing" in mem0.feedback(added["id"], "POSITIVE")["message"]
    assert len(mem0.search(PIN, filters={"user_id": user})["results"]) == 1
    held = mem0.feedback(added["id"], "VERY_NEGATIVE", "it is wrong")
    assert mem0.search(PIN, filters={"user_id": user})["results"] == []
    lifted = httpx.delete(f"{url}/v1/quarantine/{held['id']}", headers={"X-API-Key": ADMIN_KEY}, timeout=PATIENCE_S)
    assert lifted.status_code == 202
    assert len(mem0.search(PIN, filters={"user_id": user})["results"]) == 1


async def test_awaiting_client_of_the_package_does_the_same(package, host, user):
    async with package.AsyncMemoryClient(api_key=ADMIN_KEY, host=host) as client:
        await client.add(TURN, user_id=user)
        assert (await client.search(REWORDED, filters={"user_id": user}))["results"][0]["memory"] == "in the app"


def test_key_that_is_wrong_is_refused_when_the_client_is_made(package, host):
    with httpx.Client(timeout=PATIENCE_S) as http, pytest.raises(ValueError, match="Authorization"):
        package.MemoryClient(api_key="pal_nobody", host=host, client=http)


def test_paths_of_mem0s_own_server_do_the_same(plain, user):
    (added,) = plain.post("/memories", json={"messages": TURN, "user_id": user, "run_id": "chat-7"}).json()["results"]
    (found,) = plain.post("/search", json={"query": REWORDED, "user_id": user}).json()["results"]
    assert (found["id"], found["run_id"]) == (added["id"], "chat-7")
    assert [each["id"] for each in plain.get("/memories", params={"user_id": user}).json()["results"]] == [added["id"]]
    assert plain.put(f"/memories/{added['id']}", json={"text": "at the branch"}).json()["memory"] == "at the branch"
    assert len(plain.get(f"/memories/{added['id']}/history").json()) == 2
    assert plain.get(f"/memories/{added['id']}").json()["memory"] == "in the app", "what was superseded can be looked at"
    assert plain.delete(f"/memories/{added['id']}").status_code == 200
    assert plain.post("/search", json={"query": REWORDED, "user_id": user}).json()["results"][0]["memory"] == "at the branch"


def test_pages_are_walked_by_their_number(plain, user):
    plain.post("/memories", json={"messages": [{"role": "user", "content": f"rule {number}"} for number in range(5)], "user_id": user})
    pages = [plain.post("/v3/memories", json={"user_id": user}, params={"page": page, "page_size": 2}).json() for page in (1, 2, 3, 4)]
    assert [[each["memory"] for each in page["results"]] for page in pages] == [["rule 4", "rule 3"], ["rule 2", "rule 1"], ["rule 0"], []]
    assert [(page["count"], page["previous"], page["next"]) for page in pages][1] == (5, "?page=1&page_size=2", "?page=3&page_size=2")


def test_page_is_never_given_for_another_one_under_the_same_key(plain, user):
    plain.post("/memories", json={"messages": [{"role": "user", "content": f"rule {number}"} for number in range(3)], "user_id": user})
    ask = {"json": {"user_id": user}, "headers": {"Idempotency-Key": f"list {user}"}}
    first, again = [plain.post("/v3/memories", params={"page": 1, "page_size": 2}, **ask) for _ in range(2)]
    assert again.json() == first.json()
    second = plain.post("/v3/memories", params={"page": 2, "page_size": 2}, **ask)
    assert (second.status_code, second.json()["code"]) == (422, "idempotency-mismatch")


@pytest.mark.parametrize("field", ["user_id", "agent_id"])
def test_name_that_no_path_could_hold_gets_no_memory(plain, user, field):
    refused = plain.post("/memories", json={"messages": TURN, field: f"{user}/phone"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, field), refused.text
    assert "slash" in refused.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/memories", {"messages": TURN, "infer": True}, "infer"),
        ("/memories", {"messages": [{"role": "system", "content": "Be short."}]}, "messages"),
        ("/memories", {"messages": TURN, "user_id": "a", "agent_id": "b"}, "filters"),
        ("/memories", {"messages": TURN, "app_id": "a"}, "app_id"),
        ("/memories", {"messages": [{"role": "user", "content": " "}]}, "items[0].input"),
        ("/search", {"query": PIN, "filters": {"user_id": "*"}}, "filters.user_id"),
        ("/search", {"query": PIN, "filters": {"AND": [{"user_id": 7}]}}, "filters.AND[0].user_id"),
        ("/search", {"query": PIN, "filters": {"OR": [{"user_id": "a"}]}}, "filters.OR"),
        ("/search", {"query": PIN, "filters": {"user_id": "a", "category": "x"}}, "filters.category"),
        ("/search", {"query": PIN, "filters": {"user_id": "a"}, "agent_id": "b"}, "filters"),
        ("/v1/feedback", {"memory_id": "cor_x", "feedback": "MEH"}, "feedback"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name_not_passed_over(plain, path, body, field):
    answer = plain.post(path, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field), answer.text


def test_rights_are_those_of_the_key(plain, memory, url, host, bank, user):
    other = memory.create_bank(f"user:{user}")
    (added,) = plain.post("/memories", json={"messages": TURN, "user_id": user}).json()["results"]
    memory.correct(FRANCE, "Paris")
    pinned = memory.mint_key("pinned", ["recall:read", "corrections:write"], banks=[memory.get_bank(bank).id]).key
    with httpx.Client(base_url=host, headers={"Authorization": f"Token {pinned}"}, timeout=PATIENCE_S) as agent:
        assert agent.post("/search", json={"query": FRANCE}).json()["results"][0]["memory"] == "Paris"
        assert agent.post("/search", json={"query": FRANCE}).json()["results"][0]["created_at"] is None, "that is for memory:inspect"
        assert agent.post("/search", json={"query": PIN, "user_id": user}).json()["results"] == []
        for name in (user, "somebody new"):
            refused = agent.post("/memories", json={"messages": TURN, "user_id": name})
            assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
        assert agent.put(f"/memories/{added['id']}", json={"text": "x"}).status_code == 404
        assert agent.get("/memories").status_code == 403
    with Client(url, api_key=ADMIN_KEY, bank=other.id) as admin:
        assert admin.recall(REWORDED).value == "in the app"
    elsewhere = httpx.get(f"{url}/v1/whoami", headers={"Authorization": f"Token {pinned}"}, timeout=PATIENCE_S)
    assert elsewhere.status_code == 401, "only here"


def test_add_that_is_sent_again_with_its_key_is_done_once(plain, user):
    sent = [plain.post("/memories", json={"messages": TURN, "user_id": user}, headers={"Idempotency-Key": user}) for _ in range(2)]
    assert sent[0].json() == sent[1].json()
    assert sent[1].headers["idempotent-replayed"] == "true"
    assert plain.get("/memories", params={"user_id": user}).json()["count"] == 1
