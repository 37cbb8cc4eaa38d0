"""Runs a training script by SageMaker's container contract, as script mode does: hyperparameters are its arguments, and
SM_* variables say where channels and results are.

The script is SAGEMAKER_PROGRAM (or the hyperparameter sagemaker_program) in SAGEMAKER_SUBMIT_DIRECTORY, or train.py in
/opt/ml/code or in the container's own folder.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

INPUT = Path("/opt/ml/input")
FAILURE = Path("/opt/ml/output/failure")


def hyperparameters():
    """They are texts; the SageMaker SDK writes each as JSON."""
    path = INPUT / "config/hyperparameters.json"
    written = json.loads(path.read_text()) if path.exists() else {}
    read = {}
    for name, text in written.items():
        try:
            read[name] = json.loads(text)
        except ValueError:
            read[name] = text
    return read


def script_path(parameters):
    name = os.environ.get("SAGEMAKER_PROGRAM") or parameters.get("sagemaker_program") or "train.py"
    folders = [os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY"), "/opt/ml/code", "/var/task"]
    places = [Path(folder, name) for folder in folders if folder]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        sys.exit(f"there is no script: none of {', '.join(map(str, places))} exists")
    return found


def argument(value):
    """As SageMaker's toolkit: Python's text of a value, and key=value pairs of a mapping."""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


def arguments(parameters):
    words = []
    for name, value in sorted(parameters.items()):
        if name and not name.startswith("sagemaker_"):
            words += [f"--{name}" if len(name) > 1 else f"-{name}", argument(value)]
    return words


def main():
    parameters = hyperparameters()
    path = script_path(parameters)
    os.environ["SM_MODULE_NAME"], os.environ["SM_MODULE_DIR"] = path.stem, str(path.parent)
    os.environ["SM_USER_ARGS"] = json.dumps(arguments(parameters))
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path)] + arguments(parameters)
    os.chdir(path.parent)
    runpy.run_path(str(path), run_name="__main__")


def fail(reason):
    """Says why the script has failed, where it has not said so itself."""
    if not (FAILURE.exists() and FAILURE.stat().st_size):
        FAILURE.write_text(reason)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as ended:
        if ended.code not in (None, 0):
            fail(ended.code if isinstance(ended.code, str) else f"the script exited with {ended.code}")
        raise
    except BaseException as error:
        fail(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        raise
