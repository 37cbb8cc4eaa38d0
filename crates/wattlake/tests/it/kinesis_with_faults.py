"""moto's Kinesis, which refuses a part of the records of each request, as Kinesis does where a shard gets too many:
python kinesis_with_faults.py SEED PORT
"""

import io
import json
import random
import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

seed, port = int(sys.argv[1]), int(sys.argv[2])
aws = DomainDispatcherApplication(create_backend_app)
numbers = random.Random(seed)
REFUSED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard"}


def application(environ, start):
    if environ.get("HTTP_X_AMZ_TARGET", "").split(".")[-1] != "PutRecords":
        return aws(environ, start)
    request = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    records = request["Records"]
    taken = [numbers.random() > 0.1 for _ in records]
    request["Records"] = [record for record, is_taken in zip(records, taken) if is_taken]
    stored = iter(())
    if request["Records"]:
        body = json.dumps(request).encode()
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        head = []
        answer = b"".join(aws(environ, lambda *given: head.append(given)))
        if not head[0][0].startswith("200"):
            start(*head[0])
            return [answer]
        stored = iter(json.loads(answer)["Records"])
    answer = json.dumps({"FailedRecordCount": taken.count(False), "Records": [next(stored) if is_taken else REFUSED for is_taken in taken]})
    start("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
    return [answer.encode()]


make_server("127.0.0.1", port, application, threaded=True).serve_forever()
