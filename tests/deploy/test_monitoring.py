"""The dashboard and the alerts ask for metrics that the service has, in queries that Prometheus takes, and point to runbooks that exist."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from deploying import ROOT, run, tool

from service.telemetry import Metrics

MONITORING = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "palimpsest.json").read_text())
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
WIDTH = 24  # columns of a dashboard
FROM_SCRAPING = {"job", "instance", "namespace", "pod", "le"}
GRAFANA = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
ADAPTER = {"<<.Series>>": "palimpsest_queue_wait_seconds_bucket", "<<.LabelMatchers>>": 'namespace="a"', "<<.GroupBy>>": "pod"}


def labels() -> dict[str, set[str]]:
    """Every name under which Prometheus finds a value of ours, and the labels that it may have."""
    collectors = Metrics().registry._names_to_collectors
    return {name: {*getattr(collector, "_labelnames", ())} for name, collector in collectors.items()}


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", _replaced(target["expr"], GRAFANA)
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]
    for rule in yaml.safe_load((MONITORING / "adapter-values.yml").read_text())["rules"]["custom"]:
        yield f"adapter {rule['name']['as']}", _replaced(rule["metricsQuery"], ADAPTER)


def _replaced(query: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        query = query.replace(name, value)
    return query


def test_every_metric_that_is_asked_for_is_registered():
    asked = {(name, where) for where, query in queries() for name in re.findall(r"\bpalimpsest_\w+", query)}
    assert asked
    assert sorted((name, where) for name, where in asked if name not in labels()) == []


def test_every_label_that_is_asked_for_is_one_of_its_metric():
    known, odd = labels(), []
    for where, query in queries():
        for name, matchers in re.findall(r"\b(palimpsest_\w+)\{([^}]*)\}", query):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            odd += [(where, name, label) for label in asked - known.get(name, asked) - FROM_SCRAPING]
    assert odd == []


def test_every_metric_is_on_the_dashboard():
    shown = " ".join(query for where, query in queries() if where.startswith("panel"))
    families = {metric.name for metric in Metrics().registry.collect()}
    assert {name for name in families if not re.search(rf"\b{name}(_total|_bucket|_count)?\b", shown)} == set()


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_query_is_one_that_prometheus_takes(where, query):
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    promql.parse(query)


def test_alerts_point_to_runbooks_that_are_written():
    headings = set(re.findall(r"^##+ (.+)$", OPERATIONS, re.MULTILINE))
    told = {rule["alert"]: re.fullmatch(r'docs/operations\.md, "(.+)"', rule["annotations"]["runbook"])[1] for rule in RULES}
    assert {alert: section for alert, section in told.items() if section not in headings} == {}


def test_alerts_say_how_bad_they_are():
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning"}
    assert all(rule["annotations"].keys() == {"summary", "description", "runbook"} for rule in RULES)


@pytest.mark.parametrize("words", [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]], ids=lambda words: words[0])
def test_promtool_takes_the_rules_and_they_fire_when_they_must(words):
    said = run([tool("promtool"), *words[:2], str(MONITORING / words[2])])
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_is_tried():
    tried = (MONITORING / "rules_test.yml").read_text()
    for rule in RULES:
        assert f'{{alertname="{rule["alert"]}"}}' in tried, "it fires"
        assert f"alertname: {rule['alert']}}}" in tried, "it is silent"


def test_panels_lie_side_by_side():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= WIDTH
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)


def test_every_panel_takes_the_data_source_that_is_chosen():
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
