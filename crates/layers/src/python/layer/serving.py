"""Serves a model by SageMaker's container contract, with the functions of script mode:

model_fn(model_dir), input_fn(body, content_type), predict_fn(data, model), output_fn(prediction, accept), and
transform_fn(model, body, content_type, accept) in place of the last three.

The script is SAGEMAKER_PROGRAM in SAGEMAKER_SUBMIT_DIRECTORY, or inference.py in /opt/ml/model/code or in the container's
own folder. What it does not define has the defaults of SageMaker's scikit-learn container.
"""

import importlib.util
import io
import json
import os
import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = os.environ.get("SM_MODEL_DIR", "/opt/ml/model")
PORT = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


class Refused(Exception):
    """A request that is answered with a status and a text."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def script_path():
    name = os.environ.get("SAGEMAKER_PROGRAM", "inference.py")
    folders = [os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY"), f"{MODEL}/code", "/opt/ml/code", "/var/task"]
    places = [Path(folder, name) for folder in folders if folder]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        sys.exit(f"there is no script: none of {', '.join(map(str, places))} exists")
    return found


def load_script():
    path = script_path()
    sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = script
    specification.loader.exec_module(script)
    return script


def model_fn(folder):
    """Loads the only file that joblib or pickle has written."""
    files = [path for end in ("joblib", "pkl", "pickle") for path in Path(folder).glob(f"*.{end}")]
    if len(files) != 1:
        sys.exit(f"the script has no model_fn, and {folder} has {len(files)} files of joblib or pickle")
    if files[0].suffix == ".joblib":
        import joblib

        return joblib.load(files[0])
    import pickle

    with open(files[0], "rb") as file:
        return pickle.load(file)


def input_fn(body, content_type):
    import numpy

    if content_type == "application/json":
        read = json.loads(body)
        if isinstance(read, dict):
            read = next((read[key] for key in ("instances", "inputs") if key in read), read)
        return numpy.array(read)
    if content_type == "text/csv":
        return numpy.genfromtxt(io.StringIO(body), delimiter=",", ndmin=2)
    if content_type == "application/x-npy":
        return numpy.load(io.BytesIO(body), allow_pickle=False)
    raise Refused(415, f"content type {content_type!r}: expected application/json, text/csv or application/x-npy")


def predict_fn(data, model):
    return model.predict(data)


def output_fn(prediction, accept):
    listed = prediction.tolist() if hasattr(prediction, "tolist") else prediction
    if accept == "application/json":
        return json.dumps(listed), "application/json"
    if accept == "text/csv":
        rows = listed if isinstance(listed, list) else [listed]
        lines = [",".join(map(str, row)) if isinstance(row, (list, tuple)) else str(row) for row in rows]
        return "\n".join(lines) + "\n", accept
    if accept == "application/x-npy":
        import numpy

        file = io.BytesIO()
        numpy.save(file, prediction)
        return file.getvalue(), accept
    raise Refused(406, f"accept {accept!r}: expected application/json, text/csv or application/x-npy")


class Service:
    """The functions of the script, with the defaults for those that it has not, and its model."""

    def __init__(self):
        script = load_script()
        chosen = lambda default: getattr(script, default.__name__, default)
        self.transform = getattr(script, "transform_fn", None)
        self.read, self.predict, self.write = chosen(input_fn), chosen(predict_fn), chosen(output_fn)
        self.model = chosen(model_fn)(MODEL)

    def answer(self, body, content_type, accept):
        # As SageMaker's own toolkit: scripts get these as texts.
        if content_type in ("application/json", "text/csv"):
            try:
                body = body.decode()
            except UnicodeDecodeError as error:
                raise Refused(400, f"the body is not UTF-8: {error}") from None
        if self.transform is not None:
            answered = self.transform(self.model, body, content_type, accept)
        else:
            answered = self.write(self.predict(self.read(body, content_type), self.model), accept)
        # As SageMaker's own toolkit: a text alone, or with its content type.
        text, kind = answered if isinstance(answered, tuple) else (answered, accept)
        return (text if isinstance(text, bytes) else str(text).encode()), kind


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is a head and a body: without it, the second one waits for the acknowledgement of the first.
    disable_nagle_algorithm = True
    service = None

    def do_GET(self):
        self.send(200 if self.path == "/ping" else 404, b"\n", "text/plain")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/invocations":
            return self.send(404, b"there is no such path\n", "text/plain")
        content_type = (self.headers.get("Content-Type") or "application/json").split(";")[0].strip().lower()
        accept = self.headers.get("Accept")
        if accept in (None, "", "*/*"):
            accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        try:
            answered, kind = self.service.answer(body, content_type, accept)
            self.send(200, answered, kind)
        except Refused as refused:
            self.send(refused.status, f"{refused}\n".encode(), "text/plain")
        except Exception as error:
            traceback.print_exc()
            self.send(500, f"{type(error).__name__}: {error}\n".encode(), "text/plain")

    def send(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if attributes := self.headers.get(CUSTOM_ATTRIBUTES):
            self.send_header(CUSTOM_ATTRIBUTES, attributes)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are counted by the host."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Handler.service = Service()
    Server(("0.0.0.0", PORT), Handler).serve_forever()
