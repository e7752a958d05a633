"""A client that knows nothing of this project but its OpenAPI 2.0 file, posts a record and is refused one.

    generic_client.py FILE URL KEY

Everything that is said here of the gateway is the name of the operation and the values of the sample organization: paths,
places of parameters, where the key goes and the types of the answers come out of FILE. URL is where the gateway really is.
"""

import json
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from bravado.client import SwaggerClient
from bravado.exception import HTTPNotFound
from bravado.requests_client import RequestsClient

# Every answer must be as the file says, and so must what is sent.
CONFIG = {"validate_requests": True, "validate_responses": True, "validate_swagger_spec": True, "use_models": True}


def connect(file, url, key):
    """A client for the gateway at `url`, with the key where the file's security definition wants it."""
    description = json.loads(Path(file).read_text(encoding="utf-8"))
    address = urlsplit(url)
    description["schemes"], description["host"] = [address.scheme], address.netloc
    wants = next(one for one in description["securityDefinitions"].values() if one["type"] == "apiKey")
    http = RequestsClient()
    http.set_api_key(address.netloc, key, param_name=wants["name"], param_in=wants["in"])
    return SwaggerClient.from_spec(description, http_client=http, config=CONFIG)


def operation(client, name):
    """The operation of this name, under whichever tag it stands."""
    for tag in dir(client):
        found = getattr(getattr(client, tag), name, None)
        if found is not None:
            return found
    raise SystemExit(f"the file has no operation {name}")


def body(route, record):
    """The record as the value of the operation's one body parameter."""
    [parameter] = [p for p in route.operation.params.values() if p.location == "body"]
    return {parameter.name: record}


def main(file, url, key):
    route = operation(connect(file, url, key), "RouteRecord")
    identity = str(uuid.uuid4())
    record = {
        "organizationId": "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10",
        "workStreamId": "7c2e9d54-41a8-ea11-a812-000d3a579c31",
        "entityLogicalName": "incident",
        "entitySetName": "incidents",
        "recordId": identity,
        "relationshipName": "incident_msdyn_ocliveworkitems",
        "recordDetails": {"incidentid": identity, "title": "Card payment declined twice", "versionnumber": 4128765},
    }
    answer = route(**body(route, record)).response()
    accepted, status = answer.result, answer.metadata.status_code
    assert status == 202, status
    assert accepted.status == "accepted" and accepted.duplicate is False and len(accepted.receiptId) == 32, accepted
    print(f"{status} {type(accepted).__name__}: receipt {accepted.receiptId}, duplicate {accepted.duplicate}")

    unknown = dict(record, workStreamId="00000000-0000-4000-8000-000000000000")
    try:
        route(**body(route, unknown)).response(fallback_result=None)
    except HTTPNotFound as refusal:
        problem = refusal.swagger_result
        assert problem.code == "work-stream-unknown" and problem.field == "workStreamId" and problem.action, problem
        print(f"{refusal.status_code} {type(problem).__name__}: {problem.code}, {problem.action}")
    else:
        raise SystemExit("a record for an unknown work stream was not refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
