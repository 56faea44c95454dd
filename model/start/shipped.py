"""The starts that are part of the package: the newest, which new banks get, and every one that a version before shipped.

A bank is read only with the start that it was taught with, so none that was ever shipped leaves the package. Who ships another one moves
`start.safetensors` and its record to `former`, under the first digits of the file's SHA-256, and puts its digest first into `FORMER`.
"""

from pathlib import Path

HERE = Path(__file__).parent
SHIPPED = HERE / "start.safetensors"
SHIPPED_SHA256 = "039eb08498366ee711d95863f2c3c6ed8e8271c5ed1f0b1dadc58bb7103522be"
FORMER = (  # newest first
    "82adf308efa73010faea8beab514910d258368c5fd155c0f106ab95fa3e1bdfa",  # half of the change that the newest takes four tenths of
    "ea437fcc2085f5ac72dcc3a8820ed7ef8c336540a038cdfb02b86b390258903e",  # the first recipe, without general text
)
DIGITS = 8  # of a digest, in the names of former starts


def name_of(sha256: str) -> str:
    """How settings name a former start, of the digest of its file."""
    return f"shipped-{sha256[:DIGITS]}"


STARTS = {  # by the names that settings have for them: file and digest, newest first
    "shipped": (SHIPPED, SHIPPED_SHA256),
    **{name_of(sha256): (HERE / "former" / f"{sha256[:DIGITS]}.safetensors", sha256) for sha256 in FORMER},
}
