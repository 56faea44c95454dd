"""What the tests of the deployment read: compose files and chart as parsed documents, and the tools that check them if they are here."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
CLUSTER, SMALL, GPU = "docker-compose.yml", "docker-compose.small.yml", "docker-compose.gpu.yml"
CHART = ROOT / "deploy" / "helm" / "palimpsest"
RELEASE, NAMESPACE = "memory", "prod"
INTERPOLATED = re.compile(r"(?<!\$)\$\{(\w+)(?::?([?-])([^}]*))?\}")
BESIDE_PYTHON = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"


def compose(name: str) -> dict[str, Any]:
    """A compose file, anchors and merges resolved, variables as they stand."""
    return yaml.safe_load((ROOT / name).read_text())


def services(name: str = CLUSTER) -> dict[str, dict[str, Any]]:
    return compose(name)["services"]


def filled(value: str) -> str:
    """A compose value with its defaults, and a secret where one is demanded."""
    return INTERPOLATED.sub(lambda match: match[3] if match[2] == "-" else "s" * 64, value).replace("$$", "$")


def subcommand(words: list[str]) -> str | None:
    """The command of Palimpsest that a container runs, also behind a shell."""
    found = re.search(r"(?:^|\s)palimpsest (\w+)", " ".join(words))
    return found[1] if found else None


def tool(name: str) -> str:
    """Where a tool is; the test is skipped by its name where it is not."""
    found = shutil.which(name, path=BESIDE_PYTHON)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, env={"PATH": BESIDE_PYTHON, "HOME": "/tmp", **variables}
    )


def rendered(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The chart's objects, made by Helm's own engine."""
    return _rendered(json.dumps(values or {}))


@functools.cache
def _rendered(values: str) -> list[dict[str, Any]]:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(json.loads(values), name=RELEASE, namespace=NAMESPACE)
    files = [text for name, text in texts.items() if name.endswith(".yaml")]
    return [document for text in files for document in yaml.safe_load_all(text) if document]


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod specs by component."""
    found = {}
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            found[each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]] = each["spec"]["template"]["spec"]
    return found


def variables(container: dict[str, Any]) -> dict[str, Any]:
    """A container's environment: the value, or the reference to a Secret."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}
