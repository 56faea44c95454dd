"""Settings are read from the environment, refused when unknown or malformed, and documented."""

import json
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings, SettingsRefused, from_environment

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_every_setting_is_documented():
    text = OPERATIONS.read_text()
    assert [name for name in Settings.__struct_fields__ if f"`{PREFIX}{name.upper()}`" not in text] == []


def test_values_are_converted():
    settings = from_environment({"PALIMPSEST_PORT": "9000", "PALIMPSEST_VAR_DIR": "/data", "HOME": "/root"})
    assert (settings.port, settings.var_dir, settings.blobs_url) == (9000, Path("/data"), "file:///data/objects")


def test_upstreams_are_a_json_list():
    given = [{"url": "https://a.example/v1", "key": "sk-1", "models": ["a", "b/c"]}, {"url": "http://127.0.0.1:8001/v1", "models": ["d"]}]
    (first, second) = from_environment({"PALIMPSEST_UPSTREAMS": json.dumps(given)}).upstreams
    assert (first.url, first.key, first.models) == ("https://a.example/v1", "sk-1", ("a", "b/c"))
    assert (second.url, second.key, second.models) == ("http://127.0.0.1:8001/v1", "", ("d",))


def test_refused_setting_does_not_tell_an_upstreams_key():
    for url in ("ftp://a.example", 5):
        with pytest.raises(SettingsRefused) as raised:
            from_environment({"PALIMPSEST_UPSTREAMS": json.dumps([{"url": url, "key": "sk-secret", "models": ["m"]}])})
        assert "sk-secret" not in str(raised.value)


def test_empty_value_means_the_default():
    assert from_environment({"PALIMPSEST_BLOBS": ""}) == Settings()


def test_benchmark_data_directory_is_not_a_setting_of_the_service():
    assert from_environment({"PALIMPSEST_DATA": "/sets"}) == Settings()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PALIMPSEST_PROT": "1"}, "PALIMPSEST_PROT"),
        ({"PALIMPSEST_PORT": "many"}, "PALIMPSEST_PORT"),
        ({"PALIMPSEST_PORT": "70000"}, "PALIMPSEST_PORT"),
        ({"PALIMPSEST_WARM_BYTES": "-1"}, "PALIMPSEST_WARM_BYTES"),
        ({"PALIMPSEST_DEVICE": "gpu"}, "PALIMPSEST_DEVICE"),
        ({"PALIMPSEST_TENANT_SHARE": "1.5"}, "PALIMPSEST_TENANT_SHARE"),
        ({"PALIMPSEST_BOOTSTRAP_KEY": "short"}, "PALIMPSEST_BOOTSTRAP_KEY"),
        ({"PALIMPSEST_REDIS": "localhost:6379"}, "PALIMPSEST_REDIS"),
        ({"PALIMPSEST_BROKER": "amqp://rabbit"}, "PALIMPSEST_BROKER"),
        ({"PALIMPSEST_LISTEN": "7420"}, "PALIMPSEST_LISTEN"),
        ({"PALIMPSEST_LISTEN": "tcp://0.0.0.0:7420"}, "PALIMPSEST_ADVERTISE"),
        ({"PALIMPSEST_TLS_CERT": "/cert.pem"}, "PALIMPSEST_TLS_KEY"),
        ({"PALIMPSEST_UPSTREAMS": "https://api.example/v1"}, "PALIMPSEST_UPSTREAMS must be a JSON list"),
        ({"PALIMPSEST_UPSTREAMS": '{"url": "https://a.example"}'}, "PALIMPSEST_UPSTREAMS"),
        ({"PALIMPSEST_UPSTREAMS": '[{"url": "https://a.example"}]'}, "`models`.*PALIMPSEST_UPSTREAMS"),
        ({"PALIMPSEST_UPSTREAMS": '[{"url": "https://a.example", "models": []}]'}, "PALIMPSEST_UPSTREAMS.*models"),
        ({"PALIMPSEST_UPSTREAMS": '[{"url": "https://a.example", "models": ["m"], "user": "u"}]'}, "`user`.*PALIMPSEST_UPSTREAMS"),
        ({"PALIMPSEST_UPSTREAMS": '[{"url": "https://a.example", "models": ["a", "b", "a"]}]'}, "PALIMPSEST_UPSTREAMS names a twice"),
        ({"PALIMPSEST_UPSTREAMS": '[{"url": "https://a.example", "models": ["m"], "key": "line\\nbreak"}]'}, "PALIMPSEST_UPSTREAMS.*key"),
        *[
            ({"PALIMPSEST_UPSTREAMS": json.dumps([{"url": url, "models": ["m"]}])}, r"PALIMPSEST_UPSTREAMS\[0\]\.url")
            for url in (
                "ftp://a.example",
                "a.example/v1",
                "https://",
                "https://user:word@a.example/v1",
                "https://a.example/v1?key=1",
                "http://a:b",
            )
        ],
    ],
)
def test_what_cannot_be_used_is_refused_by_name(environ, named):
    with pytest.raises(SettingsRefused, match=named):
        from_environment(environ)
