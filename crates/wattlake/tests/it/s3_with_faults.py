"""moto's S3 behind a fault: python s3_with_faults.py FAULT PORT

ignores-conditions   writes an object in the place of one that exists, whatever If-None-Match says
unavailable          answers every third request with 503, as S3 does where requests come too fast
loses-answers        makes each commit of a Delta table, and answers 500 to it
"""

import itertools
import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

fault, port = sys.argv[1], int(sys.argv[2])
s3 = DomainDispatcherApplication(create_backend_app)
numbers = itertools.count(1)
committed = set()


def refusal(start, status, code):
    start(status, [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code></Error>".encode()]


def application(environ, start):
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if fault == "ignores-conditions":
        environ.pop("HTTP_IF_NONE_MATCH", None)
    if fault == "unavailable" and path.count("/") > 1 and next(numbers) % 3 == 0:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return refusal(start, "503 Slow Down", "SlowDown")
    is_commit = method == "PUT" and "/_delta_log/" in path and path.endswith(".json")
    if fault == "loses-answers" and is_commit and path not in committed:
        committed.add(path)
        b"".join(s3(environ, lambda *_: None))
        return refusal(start, "500 Internal Server Error", "InternalError")
    return s3(environ, start)


make_server("127.0.0.1", port, application, threaded=True).serve_forever()
