"""PORT ROWS: ask a service with MLflow's own client for scoring servers, and write what it made of the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas  # type: ignore[import-untyped]
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def main(port: str, rows: str) -> None:
    client = ScoringServerClient("127.0.0.1", int(port))
    client.wait_server_ready(timeout=10)
    records = json.loads(Path(rows).read_text())
    frame = pandas.DataFrame(records)
    told = {
        name: client.invoke(body).get_predictions().to_dict("records")
        for name, body in (("frame", frame), ("records", records))
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
