"""The part of Glue's API that runs a job, with states over time, errors and stops, which moto does not have."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from werkzeug import Request, Response

from tests.servers.receivers import WebServer

RUN_ID = "jr_1"


@dataclass
class Glue:
    """A job with one run at a time. Each GetJobRun answers the next of `states`; the last one stays.

    run: further fields of the run. errors: code and message of the error that an operation answers.
    calls: operation and arguments of each request.
    """

    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    run: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def answer(self, request: Request) -> Response:
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        arguments = json.loads(request.data)
        self.calls.append((operation, arguments))
        if operation in self.errors:
            code, message = self.errors[operation]
            return Response(json.dumps({"__type": code, "Message": message}), 400)
        answers: dict[str, Any] = {
            "GetJob": {"Job": {"Name": arguments["JobName"]}},
            "StartJobRun": {"JobRunId": RUN_ID},
            "BatchStopJobRun": {"SuccessfulSubmissions": [{"JobName": arguments["JobName"], "JobRunId": RUN_ID}]},
        }
        if operation == "BatchStopJobRun":
            self.states = ["STOPPED"]
        if operation == "GetJobRun":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            run = {"Id": RUN_ID, "JobName": arguments["JobName"], "JobRunState": state, "Timeout": 60}
            answers["GetJobRun"] = {"JobRun": run | self.run}
        return Response(json.dumps(answers[operation]))


@contextmanager
def glue() -> Iterator[Glue]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    served = Glue()
    with WebServer() as server:
        server.expect_request("/").respond_with_handler(served.answer)
        served.url = server.url_for("").rstrip("/")
        yield served
