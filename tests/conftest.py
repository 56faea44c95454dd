"""What all tests share: no setting leaks in from the shell, the fixtures of a service, and a count of what was not run and why.

Where CI is "true", as in .ci/run, only what needs hardware or software that nobody can just install may be skipped.
"""

import os
import re
from collections import Counter

import pytest
import structlog
from hypothesis import HealthCheck, settings

for name in [name for name in os.environ if name.startswith("PALIMPSEST_") and name != "PALIMPSEST_DATA"]:
    del os.environ[name]

settings.register_profile(  # an example is no slower for a machine that stands still for a second while it is tried
    "any machine", settings.get_profile(settings.get_current_profile_name()), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

pytest_plugins = ["fixtures_s3", "fixtures_service", "fixtures_store"]

MAY_BE_ABSENT = (  # reasons for which a test may be skipped everywhere
    "no CUDA device",
    "the kernels run on a GPU",
    "could not import 'fla",  # flash-linear-attention needs Triton
    "titans-pytorch is installed",
    "this torch has no Muon",
    "the public data sets are not there",  # they are no part of the project
)
_skipped: Counter[tuple[str, str]] = Counter()  # by file and reason


@pytest.fixture(autouse=True)
def logging_is_configured_anew():
    """A command that is called in this process configures logging for it, and writes to where its test captured it."""
    yield
    structlog.reset_defaults()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _count(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _count(report)


def _count(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        reason = re.sub(r"^Skipped: ", "", report.longrepr[2])
        _skipped[report.nodeid.split("::")[0], reason] += 1


def _not_allowed() -> list[str]:
    return sorted({reason for _, reason in _skipped if not reason.startswith(MAY_BE_ABSENT)})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for (suite, reason), number in sorted(_skipped.items()):
        terminalreporter.write_line(f"not run: {number} of {suite}: {reason}")
    if os.environ.get("CI") == "true" and _not_allowed():
        terminalreporter.write_line("CI must run what was skipped because: " + "; ".join(_not_allowed()), red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") == "true" and _not_allowed() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
