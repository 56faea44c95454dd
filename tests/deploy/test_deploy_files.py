"""Compose files, Dockerfile and their scripts fit the product: commands, settings, secrets, and nothing that a container need not have."""

import ast
import fnmatch
import json
import re
import tomllib
from pathlib import Path

import pytest
from deploying import CLUSTER, GPU, INTERPOLATED, ROOT, SMALL, compose, filled, run, services, subcommand, tool

from service.cli import main
from service.settings import BOOTSTRAP_KEY_MIN, PREFIX, Settings, from_environment

PROCESSES = ("api", "worker", "jobs")
ONE_SHOTS = {"migrate", "bucket"}
SECRET = re.compile(r"PASSWORD|SECRET|PEPPER|_KEY$|ACCESS_KEY_ID|PALIMPSEST_(DATABASE|REDIS|BROKER)$")
STORES = {"postgres", "redis-coordination", "redis-broker", "objects"}
ALL = [(name, service) for name in (CLUSTER, SMALL) for service in services(name)]
OURS = [(name, service) for name, service in ALL if services(name)[service]["image"].startswith("palimpsest:")]


def environment(name: str, service: str) -> dict[str, str]:
    return {key: filled(str(value)) for key, value in services(name)[service].get("environment", {}).items()}


def settings_of(name: str, service: str) -> Settings:
    given = environment(name, service)
    for words in services(name)[service]["command"]:  # what the shell before the command sets
        given |= dict(re.findall(r"(PALIMPSEST_\w+)=(\S+)", filled(words)))
    return from_environment(given)


@pytest.mark.parametrize(("name", "service"), OURS)
def test_what_a_service_runs_is_a_command(name, service):
    if service != "bucket":  # makes a directory, with the image's own mkdir
        assert subcommand(services(name)[service]["command"]) in main.commands


def test_cluster_has_every_process_and_every_store():
    assert set(services()) == {*PROCESSES, *ONE_SHOTS, *STORES}


@pytest.mark.parametrize(("name", "service"), [(name, service) for name, service in OURS if service != "bucket"])
def test_settings_of_a_service_are_accepted(name, service):
    assert settings_of(name, service) is not None


@pytest.mark.parametrize("process", PROCESSES)
def test_process_is_given_what_it_refuses_to_start_without(process):
    source = ast.parse((ROOT / "service" / "processes" / f"{process}.py").read_text())
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refuse_alone"]
    needed = {argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)}
    settings = settings_of(CLUSTER, process)
    assert needed
    assert {name for name in needed if not getattr(settings, name)} == set()


def test_every_variable_of_palimpsest_is_a_setting():
    files = [
        *ROOT.glob("docker-compose*.yml"),
        ROOT / "Dockerfile",
        *(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix != ".pyc"),
    ]
    named = {name for path in files for name in re.findall(r"PALIMPSEST_[A-Z0-9_]*[A-Z0-9]", path.read_text())}
    assert {name for name in named if name.removeprefix(PREFIX).lower() not in Settings.__struct_fields__} == set()


@pytest.mark.parametrize(("name", "service"), ALL)
def test_container_is_hardened(name, service):
    made = services(name)[service]
    assert made["user"] in ("10001:10001", "postgres", "redis")
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert {"privileged", "cap_add", "devices", "pid", "ipc"}.isdisjoint(made)
    assert made["logging"]["options"].keys() == {"max-size", "max-file"}
    assert made["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    if service in ONE_SHOTS:
        assert made["restart"] == "no"
    else:
        assert made["restart"] == "unless-stopped"
        assert made["healthcheck"]["test"]
        assert made["stop_grace_period"]


@pytest.mark.parametrize(("name", "service"), ALL)
def test_image_is_pinned(name, service):
    _, _, tag = services(name)[service]["image"].rpartition(":")
    assert re.match(r"v?\d+\.\d+", tag)


def test_images_of_the_dockerfile_are_pinned_to_a_patch():
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert bases
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-.+", base) for base in bases), bases


def test_image_runs_as_a_number_that_is_not_root():
    assert re.findall(r"^USER (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == ["10001:10001"]


def test_image_and_version_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {services(name)[service]["image"] for name, service in OURS} == {f"palimpsest:{version}"}
    assert {services(GPU)[name]["image"] for name in ("worker", "jobs")} == {f"palimpsest:{version}-gpu"}


@pytest.mark.parametrize(("name", "service"), ALL)
def test_secrets_come_from_the_environment_and_are_demanded(name, service):
    for key, value in services(name)[service].get("environment", {}).items():
        if SECRET.search(key):
            given = INTERPOLATED.findall(value)
            assert given, key
            assert all(mark == "?" and advice for _, mark, advice in given), key


@pytest.mark.parametrize("name", [CLUSTER, SMALL])
def test_nothing_is_published_but_the_api_on_the_loopback(name):
    published = {service: made["ports"] for service, made in services(name).items() if made.get("ports")}
    assert published == {"api" if name == CLUSTER else "palimpsest": ["127.0.0.1:${PORT:-8000}:8000"]}


def test_stores_and_workers_have_no_way_out():
    networks = compose(CLUSTER)["networks"]
    open_ones = {name for name, made in networks.items() if not (made or {}).get("internal")}
    assert open_ones == {"edge", "outside"}
    assert {service for service, made in services().items() if "outside" in made.get("networks", [])} == {"jobs"}, "to webhooks"
    assert {service for service, made in services().items() if "edge" in made.get("networks", [])} == {"api"}
    assert {service for service, made in services().items() if "frames" in made.get("networks", [])} == {"api", "worker"}


def test_everything_waits_for_the_schema():
    assert all(services()[process]["depends_on"]["migrate"]["condition"] == "service_completed_successfully" for process in PROCESSES)
    assert services()["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_only_the_migration_has_the_owners_login_and_the_bootstrap_key():
    holders = {
        service
        for service, made in services().items()
        if any("OWNER" in f"{key}{value}" or "BOOTSTRAP" in key for key, value in made.get("environment", {}).items())
    }
    assert holders == {"migrate", "postgres"}


def test_stop_leaves_a_worker_more_time_than_its_drain():
    made = services()["worker"]
    assert int(made["stop_grace_period"].removesuffix("s")) > settings_of(CLUSTER, "worker").drain_s + 30


def test_broker_keeps_its_messages_and_coordination_its_heartbeats():
    broker, coordination = (" ".join(services()[f"redis-{part}"]["command"]) for part in ("broker", "coordination"))
    assert "--appendonly yes" in broker
    assert "--maxmemory-policy noeviction" in broker
    assert '--save "" --appendonly no' in coordination
    assert "--maxmemory-policy volatile-lru" in coordination


def test_made_secrets_are_all_that_the_cluster_demands():
    made = run(["sh", "deploy/make-env.sh"])
    again = run(["sh", "deploy/make-env.sh"])
    given = dict(line.split("=", 1) for line in made.stdout.splitlines())
    demanded = {name for name, mark, _ in INTERPOLATED.findall((ROOT / CLUSTER).read_text()) if mark == "?"}
    assert given.keys() == demanded
    assert len(given["PALIMPSEST_BOOTSTRAP_KEY"]) >= BOOTSTRAP_KEY_MIN
    assert all(re.fullmatch(r"[0-9a-f]{20,}", value) for value in given.values())
    assert set(given.values()).isdisjoint(line.split("=", 1)[1] for line in again.stdout.splitlines())


@pytest.mark.parametrize("files", [[CLUSTER], [CLUSTER, GPU], [SMALL]], ids="+".join)
def test_docker_compose_takes_the_files(files):
    words = [
        *_compose_command(),
        *(word for name in files for word in ("--file", name)),
        "--env-file",
        "/dev/null",
        "config",
        "--format",
        "json",
    ]
    secrets = dict(line.split("=", 1) for line in run(["sh", "deploy/make-env.sh"]).stdout.splitlines())
    said = run(words, **secrets)
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    project = json.loads(said.stdout)
    assert set(project["services"]) == set(services(files[0]))
    refused = run(words)
    assert refused.returncode != 0
    assert "is missing a value" in refused.stderr


def test_hadolint_finds_nothing():
    said = run([tool("hadolint"), "Dockerfile"])
    assert said.returncode == 0, said.stdout


def test_build_context_holds_what_the_image_copies_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) for word in line.split()[:-1]
    }
    assert [line for line in lines if not line.startswith(("#", "!", "**/"))] == ["*"]
    assert copied == let_in


def test_every_file_that_a_package_reads_is_installed_with_it():
    """A checkout has them anyway; the image has what setuptools was told of."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packages = ("model", "service", "workers", "palimpsest", "migrations")
    files = (path for package in packages for path in (ROOT / package).rglob("*") if path.suffix not in (".py", ".pyc"))
    assert [path.relative_to(ROOT).as_posix() for path in files if path.is_file() and not _installed(path, told)] == []


def _installed(path: Path, told: dict[str, list[str]]) -> bool:
    """Whether package data names the file: by a pattern of a folder above it, or of all packages."""
    above = {".".join(folder.relative_to(ROOT).parts): folder for folder in path.parents if folder.is_relative_to(ROOT)}
    above["*"] = path.parent
    patterns = ((above[name], pattern) for name in told.keys() & above.keys() for pattern in told[name])
    return any(fnmatch.fnmatch(path.relative_to(folder).as_posix(), pattern) for folder, pattern in patterns)


def _compose_command() -> list[str]:
    """Docker Compose of the second generation, as a program of its own or a plug-in of docker."""
    tries = []
    for candidate in ("docker-compose", "docker"):
        try:
            tries.append([tool(candidate), *(["compose"] if candidate == "docker" else [])])
        except pytest.skip.Exception:
            continue
    for words in tries:
        said = run([*words, "version", "--short"])
        if said.returncode == 0 and int(said.stdout.strip().lstrip("v").split(".")[0]) >= 2:
            return words
    pytest.skip("Docker Compose 2 is not installed")
