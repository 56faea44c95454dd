"""Signatures of webhooks, and the secrets that they are made with.

A secret is derived from the pepper and the webhook's id, so that the database holds none: a copy of it can forge nothing.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode


def secret_of(pepper: bytes, webhook: str) -> str:
    """The secret of a webhook."""
    return "whsec_" + urlsafe_b64encode(hmac.digest(pepper, f"webhook\n{webhook}".encode(), hashlib.sha256)).decode().rstrip("=")


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """What `Palimpsest-Signature` says: `t=<seconds>,v1=<hex HMAC-SHA256 of "<seconds>.<body>">`."""
    signed = hmac.digest(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={signed.hex()}"
