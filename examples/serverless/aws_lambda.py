"""The handler for AWS Lambda behind a function URL or an HTTP API (payload format 2.0): `aws_lambda.handler`."""

import base64
from typing import Any

from notes import answer


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode()
    status, text = answer(event["requestContext"]["http"]["method"], event["rawPath"], body)
    return {"statusCode": status, "headers": {"content-type": "text/plain; charset=utf-8"}, "body": text}
