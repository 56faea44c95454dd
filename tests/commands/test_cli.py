"""The command `palimpsest` as a person types it: in a process of its own."""

import os
import subprocess
import sys

import pytest
from waiting import PATIENCE_S


def palimpsest(*words: str, var_dir, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    environ |= {"PALIMPSEST_VAR_DIR": str(var_dir), **{f"PALIMPSEST_{name}": value for name, value in settings.items()}}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words], capture_output=True, text=True, timeout=2 * PATIENCE_S, env=environ, check=False
    )


def test_doctor_without_an_address_examines_a_service_of_its_own_and_leaves_the_data_directory_alone(tmp_path):
    ran = palimpsest("doctor", var_dir=tmp_path / "var")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "healthy" in ran.stdout
    assert not (tmp_path / "var").exists()


def test_doctor_of_an_address_where_nobody_serves_fails_with_one_line(tmp_path):
    ran = palimpsest("doctor", "--url", "http://127.0.0.1:9", "--key", "x" * 40, var_dir=tmp_path / "var")
    assert ran.returncode == 1
    assert ran.stdout.startswith("cannot examine the service: ")
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PROT": "1"}, "unknown setting PALIMPSEST_PROT"),
        ({"PORT": "many"}, "PALIMPSEST_PORT"),
        ({"BOOTSTRAP_KEY": "short"}, "PALIMPSEST_BOOTSTRAP_KEY needs at least 32 characters"),
        ({"BLOBS": "ftp://bucket", "PORT": "0"}, "PALIMPSEST_BLOBS"),
        ({"ENCODER": "/nowhere", "PORT": "0"}, "/nowhere"),
        ({"ENCODER_START": "/nowhere", "PORT": "0"}, "PALIMPSEST_ENCODER_START_SHA256"),
        ({"ENCODER_START": "/nowhere", "ENCODER_START_SHA256": "f" * 64, "PORT": "0"}, "the encoder's start /nowhere cannot be read"),
        ({"LOG_LEVEL": "loud", "PORT": "0"}, "PALIMPSEST_LOG_LEVEL"),
        ({"DATABASE": "mysql://x", "PORT": "0"}, "PALIMPSEST_DATABASE"),
        ({"DATABASE": "postgresql://nobody@127.0.0.1:9/none", "PORT": "0"}, "the database cannot be used now"),
    ],
    ids=["name", "number", "key", "blobs", "encoder", "digest", "start", "level", "database", "unreachable"],
)
def test_setting_that_cannot_be_used_is_told_in_one_line_by_name(tmp_path, settings, said):
    ran = palimpsest("serve", var_dir=tmp_path / "var", **settings)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_migrate_makes_a_database_and_a_key_can_be_minted_in_it(tmp_path):
    assert palimpsest("migrate", var_dir=tmp_path / "var").returncode == 0
    assert palimpsest("migrate", var_dir=tmp_path / "var").returncode == 0
    ran = palimpsest("key", "--name", "reader", "--scope", "recall:read", var_dir=tmp_path / "var")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("pal_")
    wrong = palimpsest("key", "--scope", "everything", var_dir=tmp_path / "var")
    assert wrong.returncode != 0
    assert "everything" in wrong.stderr
