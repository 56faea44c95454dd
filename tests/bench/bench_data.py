"""A data directory in the formats of the public files, with rows of the test's own."""

import csv
import gzip
import io
import json

from bench.data import SOURCES


def write_all(below, rows):
    """The data sets in their own formats, with these rows."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("text", "category"), *rows])
    clinc = {"train": [list(row) for row in rows], "oos_train": [["what is love", "oos"]], "test": [["not this", "test"]]}
    contents = {
        "banking77": text.getvalue(),
        "clinc150": json.dumps(clinc),
        "hwu64": "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows),
    }
    for name, content in contents.items():
        path = below / SOURCES[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()))
