"""What one can ask of a service: every call of the API once, for both clients. Each is described in docs/api.md.

`bank` is a name or an id; without it the client's own, else the service's default for the key. The calls that look are in
`palimpsest.inspecting`, those about versions in `palimpsest.versioning`, those of who answers for a memory in `palimpsest.governing`.
"""

from collections.abc import Callable
from types import NoneType

from palimpsest.exchange import Call, new_key, segment
from palimpsest.governing import Governing
from palimpsest.inspecting import Order
from palimpsest.jobs import StartedJob, looking, waiting
from palimpsest.replies import Bank, Health, Job, JobStarted, Page, Proposal, SessionInfo, Taught
from palimpsest.sessions import Session
from palimpsest.steps import Listing, Steps, Way, listing, method


class Methods(Governing[Way]):
    """The calls that both clients have."""

    # jobs

    @method
    def consolidate(self, *, bank: str | None = None) -> Steps[StartedJob[Way]]:
        """Start a consolidation; one that is open is reused."""
        started = yield from self._post("/v1/consolidations", JobStarted, {}, bank=bank, key=new_key())
        return StartedJob(self._way, self._exchange, started.job_id, deduplicated=started.deduplicated)

    @listing
    def jobs(self, *, order: Order = "oldest", bank: str | None = None) -> Listing[Job]:
        """Jobs, in the order they were queued, or the newest first."""
        return self._list("/v1/jobs", Page[Job], bank, params={"order": order})

    @method
    def get_job(self, job_id: str) -> Steps[Job]:
        """One job."""
        return looking(self._exchange, job_id)

    @method
    def wait(self, job_id: str, *, progress: Callable[[Job], object] | None = None, timeout_s: float | None = None) -> Steps[Job]:
        """The job once it has succeeded; `progress` is called with it whenever it moved.

        Raises:
            JobFailed: it failed or was canceled. JobUnfinished: it did not end in `timeout_s`.
        """
        return waiting(self._exchange, job_id, progress, timeout_s)

    @method
    def cancel_job(self, job_id: str) -> Steps[Job]:
        """Cancel a consolidation, an export, a bisection or what is folded for a rollback, while it is queued."""
        return self._post(f"/v1/jobs/{segment(job_id)}/cancel", Job, None, by_bank=False, key=new_key())

    # banks

    @method
    def create_bank(self, name: str) -> Steps[Bank]:
        """Create an empty bank."""
        return self._post("/v1/banks", Bank, {"name": name}, by_bank=False, key=new_key())

    @listing
    def banks(self) -> Listing[Bank]:
        """The banks that the key may use."""
        return self._list("/v1/banks", Page[Bank], None, by_bank=False)

    @method
    def get_bank(self, bank: str) -> Steps[Bank]:
        """One bank, by name or id."""
        return self._get(f"/v1/banks/{segment(bank)}", Bank, None, by_bank=False)

    @method
    def delete_bank(self, bank: str) -> Steps[None]:
        """Delete a bank, its ledger and its snapshots, for good."""
        yield from self._call("DELETE", f"/v1/banks/{segment(bank)}", NoneType, None, by_bank=False)
        self._exchange.forget_state(bank)

    @method
    def health(self) -> Steps[Health]:
        """Whether the first recall would be served warm, and the parts."""
        return self._exchange.perform(Call(method="GET", path="/health/ready", reply=Health, also=503))

    # what conversations propose

    @listing
    def proposals(self, *, bank: str | None = None) -> Listing[Proposal]:
        """What users seem to have corrected in conversations, and nobody has confirmed or dismissed yet."""
        return self._list("/v1/proposals", Page[Proposal], bank)

    @method
    def confirm_proposal(
        self, proposal_id: str, *, input: str | None = None, right: str | None = None, wrong: str | None = None
    ) -> Steps[Taught]:
        """Teach what was proposed, or in its place what is said here."""
        said = {"input": input, "right": right, "wrong": wrong}
        return self._post(f"/v1/proposals/{segment(proposal_id)}/confirm", Taught, said, by_bank=False, key=new_key())

    @method
    def dismiss_proposal(self, proposal_id: str) -> Steps[None]:
        """Teach nothing of it."""
        return self._call("DELETE", f"/v1/proposals/{segment(proposal_id)}", NoneType, None, by_bank=False)

    # sessions

    def session(self, session_id: str | None = None, *, bank: str | None = None) -> Session[Way]:
        """A conversation, for `with` or `async with`: opened at its begin, under a new name where none is given, and closed at its end."""
        return Session(self._way, self._exchange, self._named(bank), session_id)

    @listing
    def sessions(self, *, bank: str | None = None) -> Listing[SessionInfo]:
        """The open sessions of a bank."""
        return self._list("/v1/sessions", Page[SessionInfo], bank)

    @method
    def get_session(self, session_id: str, *, bank: str | None = None) -> Steps[SessionInfo]:
        """One session; to look at it is not to use it."""
        return self._get(f"/v1/sessions/{segment(session_id)}", SessionInfo, bank)
