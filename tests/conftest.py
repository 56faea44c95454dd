"""What all tests share: no setting leaks in from the shell, and the fixtures of a service."""

import os

for name in [name for name in os.environ if name.startswith("PALIMPSEST_") and name != "PALIMPSEST_DATA"]:
    del os.environ[name]

pytest_plugins = ["fixtures_s3", "fixtures_service", "fixtures_store"]
