"""`python -m service.api` prints the OpenAPI document, as it is committed in `docs/openapi.json`."""

import sys

from service.api.app import routes_only
from service.api.openapi import text

if __name__ == "__main__":
    sys.stdout.write(text(routes_only()))
