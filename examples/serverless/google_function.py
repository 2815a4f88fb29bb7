"""The function for Google Cloud Functions and Cloud Run: `functions-framework --source google_function.py --target notes`."""

import functions_framework
from flask import Request, Response

from notes import answer


@functions_framework.http
def notes(request: Request) -> Response:
    status, text = answer(request.method, request.path, request.get_data(as_text=True))
    return Response(text, status, content_type="text/plain; charset=utf-8")
