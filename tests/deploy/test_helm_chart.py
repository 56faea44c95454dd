"""The Helm chart: what it makes is taken by Kubernetes, holds to its restricted profile, and fits the product's commands and settings."""

import json
import re
import tomllib

import jsonschema
import pytest
import yaml
from deploying import CHART, NAMESPACE, RELEASE, ROOT, pods, rendered, subcommand, variables

from service.cli import main
from service.settings import from_environment

VERSIONS = ("1.30", "1.34")  # of Kubernetes: the oldest that the chart allows, and a newer one
WORKER = {"app.kubernetes.io/name": "palimpsest", "app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": "worker"}
EVERYTHING = {
    "image": {"repository": "registry.example.com/palimpsest", "digest": f"sha256:{'a' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "settings": {"PALIMPSEST_RATE": "50", "PALIMPSEST_LOG_LEVEL": "debug", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "tls": {"existingSecret": "frames"},
    "blobs": {"endpoint": "https://s3.example.com", "credentials": False},
    "api": {
        "autoscaling": {"enabled": False},
        "upstreams": {"existingSecret": "chat"},
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    },
    "worker": {
        "autoscaling": {"enabled": True},
        "gpu": {"enabled": True, "runtimeClassName": "nvidia"},
        "image": {"tag": "0.1.0-gpu"},
        "settings": {"PALIMPSEST_RATE": "1"},
        "drainSeconds": 120,
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    },
    "jobs": {"queues": ["rebuild"], "podAnnotations": {"a": "b"}},
    "networkPolicy": {
        "apiFrom": [{"namespaceSelector": {"matchLabels": {"edge": "yes"}}}],
        "storeTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}
GPU = yaml.safe_load((CHART / "values-gpu.yaml").read_text())
VALUES = pytest.mark.parametrize("values", [{}, EVERYTHING, GPU], ids=["defaults", "everything", "gpu"])


def schema():
    return json.loads((CHART / "values.schema.json").read_text())


def of_kind(objects, kind):
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


@pytest.mark.parametrize("name", ["values.yaml", "values-gpu.yaml"])
def test_values_fit_their_schema(name):
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(yaml.safe_load((CHART / name).read_text()), schema())


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "latest"}},
        {"settings": {"PALIMPSEST_RATE": 50}},
        {"settings": {"PALIMPSEST_DATABASE": "postgresql://user:password@host/name"}},
        {"settings": {"PALIMPSEST_UPSTREAMS": '[{"url": "https://api.example.com/v1", "key": "secret"}]'}},
        {"settings": {"DATABASE": "x"}},
        {"worker": {"warmBytes": "1Gi"}},
        {"workers": {}},
    ],
    ids=json.dumps,
)
def test_values_that_cannot_be_meant_are_refused(values):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())


def test_chart_and_product_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_helm_finds_no_fault():
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    said = helm.lint(str(CHART))
    assert said["errors"] == []
    assert [message["error"] for message in said["messages"]] == ["icon is recommended"]


@VALUES
def test_objects_are_those_of_kubernetes(values):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    for each in rendered(values):
        for version in VERSIONS:
            if each["apiVersion"] != "monitoring.coreos.com/v1":  # the operator's own
                validate(each, version, strict=True)


@VALUES
def test_no_secret_is_made_and_every_one_is_referred_to(values):
    objects = rendered(values)
    assert of_kind(objects, "Secret") == {}
    assert of_kind(objects, "ConfigMap") == {}
    for pod in pods(objects).values():
        for name, value in variables(pod["containers"][0]).items():
            if re.search(r"PEPPER|_KEY$|DATABASE|REDIS|BROKER|ACCESS_KEY_ID|UPSTREAMS", name):
                assert value == "/tls/tls.key" or value["secretKeyRef"]["key"] == name


@VALUES
def test_pods_hold_to_the_restricted_profile(values):
    for component, pod in pods(rendered(values)).items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert re.search(r":\d+\.\d+\.\d+|@sha256:", container["image"]), component


@VALUES
def test_no_pod_is_told_of_services(values):
    """A Service named palimpsest would set PALIMPSEST_PORT to its address."""
    assert all(pod["enableServiceLinks"] is False for pod in pods(rendered(values)).values())


@VALUES
def test_pods_run_commands_with_settings_that_are_accepted(values):
    made = pods(rendered(values))
    assert made.keys() == {"api", "worker", "jobs", "migrate"}
    stand_in = {"DATABASE": "postgresql://a@b/c", "REDIS": "redis://a/0", "BROKER": "redis://a/0"}
    stand_in["UPSTREAMS"] = '[{"url": "https://api.example.com/v1", "key": "sk-1", "models": ["m"]}]'
    for component, pod in made.items():
        container = pod["containers"][0]
        assert subcommand(container["command"]) == component
        assert component in main.commands
        given = {
            name: value if isinstance(value, str) else stand_in.get(name.removeprefix("PALIMPSEST_"), "s" * 64)
            for name, value in variables(container).items()
        }
        assert len(given) == len(container["env"]), "a variable is given twice"
        from_environment(given)


def test_upstreams_come_from_a_secret_of_their_own_and_reach_the_api_alone():
    made = pods(rendered(EVERYTHING))
    found = {component: variables(pod["containers"][0]).get("PALIMPSEST_UPSTREAMS") for component, pod in made.items()}
    assert found.pop("api") == {"secretKeyRef": {"name": "chat", "key": "PALIMPSEST_UPSTREAMS"}}
    assert set(found.values()) == {None}
    assert "PALIMPSEST_UPSTREAMS" not in variables(pods(rendered())["api"]["containers"][0])


def test_settings_of_one_process_win_over_those_of_all():
    made = pods(rendered(EVERYTHING))
    assert variables(made["worker"]["containers"][0])["PALIMPSEST_RATE"] == "1"
    assert variables(made["api"]["containers"][0])["PALIMPSEST_RATE"] == "50"


def test_tag_of_a_component_wins_over_the_common_digest():
    made = pods(rendered(EVERYTHING))
    assert made["worker"]["containers"][0]["image"] == "registry.example.com/palimpsest:0.1.0-gpu"
    assert made["api"]["containers"][0]["image"].startswith("registry.example.com/palimpsest@sha256:")


def test_worker_is_called_by_its_own_name():
    objects = rendered()
    service = of_kind(objects, "Service")[f"{RELEASE}-palimpsest-worker"]
    workers = of_kind(objects, "StatefulSet")[f"{RELEASE}-palimpsest-worker"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert workers["spec"]["serviceName"] == service["metadata"]["name"]
    advertised = variables(workers["spec"]["template"]["spec"]["containers"][0])["PALIMPSEST_ADVERTISE"]
    advertised = advertised.replace("$(POD_NAME)", f"{workers['metadata']['name']}-0").replace("$(POD_NAMESPACE)", NAMESPACE)
    assert advertised == "tcp://memory-palimpsest-worker-0.memory-palimpsest-worker.prod.svc.cluster.local:7420"


@VALUES
def test_pod_has_more_time_to_stop_than_its_drain(values):
    worker = pods(rendered(values))["worker"]
    assert worker["terminationGracePeriodSeconds"] >= int(variables(worker["containers"][0])["PALIMPSEST_DRAIN_S"]) + 15


def test_api_goes_on_while_proxies_forget_it():
    api = pods(rendered())["api"]
    waits = api["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert api["terminationGracePeriodSeconds"] >= waits + 10


def test_only_the_api_reaches_the_workers():
    worker = of_kind(rendered(EVERYTHING), "NetworkPolicy")[f"{RELEASE}-palimpsest-worker"]["spec"]
    assert worker["podSelector"]["matchLabels"] == WORKER
    assert worker["policyTypes"] == ["Ingress", "Egress"]
    frames = [rule for rule in worker["ingress"] if {"protocol": "TCP", "port": 7420} in rule["ports"]]
    assert frames == [
        {
            "from": [{"podSelector": {"matchLabels": WORKER | {"app.kubernetes.io/component": "api"}}}],
            "ports": [{"protocol": "TCP", "port": 7420}],
        }
    ]


def test_every_pod_is_under_a_policy_that_closes_both_ways():
    objects = rendered()
    policies = of_kind(objects, "NetworkPolicy").values()
    closed = {policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for policy in policies}
    assert closed == pods(objects).keys()
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies)
    ports = {port["port"] for policy in policies for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 5432, 6379, 443, 7420}


@VALUES
def test_schema_is_made_before_anything_starts_and_needs_nothing_of_the_chart(values):
    (job,) = of_kind(rendered(values), "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp"}


def test_autoscaled_sets_have_no_number_of_their_own():
    for values, scaled in (({}, "api"), (EVERYTHING, "worker")):
        objects = rendered(values)
        assert set(of_kind(objects, "HorizontalPodAutoscaler")) == {f"{RELEASE}-palimpsest-{scaled}"}
        for name, each in {**of_kind(objects, "Deployment"), **of_kind(objects, "StatefulSet")}.items():
            assert ("replicas" in each["spec"]) is not name.endswith(scaled)


def test_workers_scale_by_the_metric_that_the_adapter_makes():
    (scaler,) = of_kind(rendered(EVERYTHING), "HorizontalPodAutoscaler").values()
    (metric,) = scaler["spec"]["metrics"]
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "adapter-values.yml").read_text())["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] in {rule["name"]["as"] for rule in rules}
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "50m"}


def test_a_disruption_takes_one_api_and_one_worker_at_most():
    budgets = of_kind(rendered(), "PodDisruptionBudget")
    assert set(budgets) == {f"{RELEASE}-palimpsest-api", f"{RELEASE}-palimpsest-worker"}
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets.values())


def test_probes_ask_the_port_that_shows_health():
    for component, pod in pods(rendered()).items():
        if component != "migrate":
            container = pod["containers"][0]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container[probe]["httpGet"]
                assert asked["path"] == ("/health/ready" if probe == "readinessProbe" else "/health/live")
                assert ports[asked["port"]] == (8000 if component == "api" else 9100)


@pytest.mark.parametrize("component", ["worker", "jobs"])
def test_gpu_values_give_all_who_fold_a_bank_the_same_kind_of_device(component):
    container = pods(rendered(GPU))[component]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in container["resources"]["requests"]
    assert {"name": "PALIMPSEST_DEVICE", "value": "cuda:0"} in container["env"]
    assert container["image"].endswith("-gpu")


def test_monitor_names_ports_that_services_have():
    objects = rendered(EVERYTHING)
    (monitor,) = of_kind(objects, "ServiceMonitor").values()
    ports = {port["name"] for service in of_kind(objects, "Service").values() for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert all(wanted <= service["metadata"]["labels"].items() for service in of_kind(objects, "Service").values())
