"""The whole life of a LightGBM model, by an unmodified boto3.

by_boto3.py URL FOLDER: the address of SageMaker's APIs, and the folder that s3://models/ stands for. The keys are in the
environment.
"""

import io
import json
import os
import sys
import tarfile
import threading
import time
from pathlib import Path

import boto3
import lightgbm
import numpy
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

url, folder = sys.argv[1], Path(sys.argv[2])
settings = {"endpoint_url": url, "region_name": "eu-west-3"}
once = Config(retries={"max_attempts": 1, "mode": "standard"})
control = boto3.client("sagemaker", **settings, config=once)
runtime = boto3.client("sagemaker-runtime", **settings, config=once)
random = numpy.random.default_rng(7)


def validated(client, operation):
    """Calls an operation; its answer has the shape of botocore's service model."""

    def call(**members):
        answer = getattr(client, operation)(**members)
        name = client.meta.method_to_api_mapping[operation]
        shape = client.meta.service_model.operation_model(name).output_shape
        if shape is not None:
            found = {key: value for key, value in answer.items() if key not in ("ResponseMetadata", "Body")}
            known = {key for key in shape.members}
            assert set(found) <= known, (operation, set(found) - known)
            missing = [key for key in shape.required_members if key not in answer]
            assert not missing, (operation, missing)
            body = {"Body": b""} if "Body" in answer else {}
            report = ParamValidator().validate(found | body, shape)
            assert not report.has_errors(), (operation, report.generate_report())
        return answer

    return call


def refused(call, code, status, text, **members):
    try:
        call(**members)
    except ClientError as error:
        found = error.response
        assert found["Error"]["Code"] == code, found
        assert found["ResponseMetadata"]["HTTPStatusCode"] == status, found
        message = found["Error"].get("Message") or found.get("Message")
        assert text in message, found
        return found
    raise AssertionError(f"{members} was not refused")


def train(slope):
    rows = random.normal(size=(500, 3))
    data = lightgbm.Dataset(rows, rows @ [slope, 1.0, 0.0], feature_name=["flow", "rain", "hour"])
    return lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=20)


def put(name, booster=None, text=None):
    text = booster.model_to_string() if booster else text
    with tarfile.open(folder / name, "w:gz") as archive:
        entry = tarfile.TarInfo("model.txt")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))


def create(name, archive, weight=1.0, **more):
    validated(control, "create_model")(
        ModelName=name,
        PrimaryContainer={"Image": "wattlake/lightgbm", "ModelDataUrl": f"s3://models/{archive}"},
        ExecutionRoleArn="arn:aws:iam::000000000000:role/any-role",
    )
    variant = {"VariantName": "main", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.t2.medium"}
    validated(control, "create_endpoint_config")(EndpointConfigName=name, ProductionVariants=[variant | more])


invoke = validated(runtime, "invoke_endpoint")
describe = validated(control, "describe_endpoint")
asked = random.normal(size=(20, 3))


def predictions(endpoint="hydro", **members):
    body = json.dumps({"instances": asked.tolist()})
    answer = invoke(EndpointName=endpoint, Body=body, ContentType="application/json", **members)
    return json.loads(answer["Body"].read())["predictions"], answer


first, second = train(1.0), train(-3.0)
put("first.tar.gz", first)
put("second.tar.gz", second)
put("broken.tar.gz", text=first.model_to_string()[:2000])

# One model.
create("first", "first.tar.gz")
assert validated(control, "describe_model")(ModelName="first")["PrimaryContainer"]["Image"] == "wattlake/lightgbm"
validated(control, "create_endpoint")(EndpointName="hydro", EndpointConfigName="first")
control.get_waiter("endpoint_in_service").wait(EndpointName="hydro", WaiterConfig={"Delay": 0.2, "MaxAttempts": 100})
found, answer = predictions()
assert found == first.predict(asked).tolist(), found
assert answer["InvokedProductionVariant"] == "main", answer
csv = "\n".join(",".join(map(repr, row)) for row in asked.tolist())
answer = invoke(EndpointName="hydro", Body=csv, ContentType="text/csv", Accept="text/csv", CustomAttributes="trace=1")
assert [float(line) for line in answer["Body"].read().split()] == first.predict(asked).tolist()
assert answer["CustomAttributes"] == "trace=1" and answer["ContentType"] == "text/csv"

# What is wrong is an error in SageMaker's form.
refused(runtime.invoke_endpoint, "ValidationError", 400, "Endpoint wind of account", EndpointName="wind", Body=b"1")
error = refused(
    runtime.invoke_endpoint, "ModelError", 424, "line 1: the value", EndpointName="hydro", Body="x,2,3", ContentType="text/csv"
)
assert error["OriginalStatusCode"] == 400 and "flow" in error["OriginalMessage"], error
refused(
    runtime.invoke_endpoint, "ValidationError", 400, "Variant other not found",
    EndpointName="hydro", Body="1,2,3", ContentType="text/csv", TargetVariant="other",
)
refused(control.describe_endpoint, "ValidationException", 400, "Could not find endpoint", EndpointName="wind")
refused(control.create_endpoint, "ValidationException", 400, "already existing", EndpointName="hydro", EndpointConfigName="first")
refused(
    control.create_model, "ValidationException", 400, "no container of the warehouse stands for",
    ModelName="third", PrimaryContainer={"Image": "other:1"}, ExecutionRoleArn="arn:aws:iam::000000000000:role/any-role",
)
refused(
    control.create_model, "ValidationException", 400, "artifact \"s3://models/none.tar.gz\" is not there",
    ModelName="third", PrimaryContainer={"Image": "wattlake/lightgbm", "ModelDataUrl": "s3://models/none.tar.gz"},
    ExecutionRoleArn="arn:aws:iam::000000000000:role/any-role",
)
refused(control.delete_model, "ValidationException", 400, "uses it", ModelName="first")
refused(control.delete_endpoint_config, "ValidationException", 400, "uses it", EndpointConfigName="first")

# An update under load: no request fails, and each is answered by one of the two.
create("second", "second.tar.gz")
expected = [model.predict(asked).tolist() for model in (first, second)]
seen, failed, stop = [], [], threading.Event()


def load():
    while not stop.is_set():
        try:
            seen.append(expected.index(predictions()[0]))
        except Exception as error:
            failed.append(repr(error))


def wait(endpoint="hydro"):
    while (found := describe(EndpointName=endpoint))["EndpointStatus"] in ("Creating", "Updating"):
        time.sleep(0.05)
    return found


workers = [threading.Thread(target=load) for _ in range(4)]
[worker.start() for worker in workers]
validated(control, "update_endpoint")(EndpointName="hydro", EndpointConfigName="second")
described = wait()
assert described["EndpointStatus"] == "InService" and described["EndpointConfigName"] == "second", described
while seen[-1:] != [1]:
    time.sleep(0.01)
# To a broken model: the endpoint goes back by itself.
create("broken", "broken.tar.gz")
control.update_endpoint(EndpointName="hydro", EndpointConfigName="broken")
described = wait()
assert described["EndpointStatus"] == "InService" and described["EndpointConfigName"] == "second", described
assert "cut off" in described["FailureReason"], described
stop.set()
[worker.join() for worker in workers]
assert not failed, failed[:3]
assert predictions()[0] == expected[1]

# Two variants share the requests by their weights.
variants = [
    {"VariantName": name, "ModelName": name, "InitialInstanceCount": 1, "InitialVariantWeight": weight}
    for name, weight in (("first", 1), ("second", 0))
]
control.create_endpoint_config(EndpointConfigName="both", ProductionVariants=variants)
control.update_endpoint(EndpointName="hydro", EndpointConfigName="both")
wait()
assert {answer["InvokedProductionVariant"] for _, answer in (predictions() for _ in range(20))} == {"first"}
assert predictions(TargetVariant="second")[0] == expected[1]
validated(control, "update_endpoint_weights_and_capacities")(
    EndpointName="hydro", DesiredWeightsAndCapacities=[{"VariantName": "second", "DesiredWeight": 1}]
)
weights = {variant["VariantName"]: variant["CurrentWeight"] for variant in describe(EndpointName="hydro")["ProductionVariants"]}
assert weights == {"first": 1.0, "second": 1.0}, weights
until = time.time() + 20
while {predictions()[1]["InvokedProductionVariant"] for _ in range(60)} != {"first", "second"}:
    assert time.time() < until

# A broken one is never in service.
control.create_endpoint(EndpointName="broken", EndpointConfigName="broken")
described = wait("broken")
assert described["EndpointStatus"] == "Failed" and "cut off" in described["FailureReason"], described
refused(runtime.invoke_endpoint, "ValidationError", 400, "its status is Failed", EndpointName="broken", Body=b"1")

# Lists, in pages.
names = [row["EndpointName"] for page in control.get_paginator("list_endpoints").paginate(SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 1}) for row in page["Endpoints"]]
assert names == ["broken", "hydro"], names
assert [row["ModelName"] for row in validated(control, "list_models")(NameContains="first")["Models"]] == ["first"]
assert len(validated(control, "list_endpoint_configs")()["EndpointConfigs"]) == 4
validated(control, "describe_endpoint_config")(EndpointConfigName="both")

# Who may not, may not.
other = {"aws_access_key_id": "reader", "aws_secret_access_key": os.environ["READER_SECRET"]}
reader = boto3.client("sagemaker", **settings, **other, config=once)
assert reader.describe_endpoint(EndpointName="hydro")["EndpointStatus"] == "InService"
refused(reader.delete_endpoint, "AccessDeniedException", 403, "not authorized to change endpoint:hydro", EndpointName="hydro")
wrong = boto3.client("sagemaker-runtime", **settings, aws_access_key_id="dispatch", aws_secret_access_key="x" * 40, config=once)
refused(wrong.invoke_endpoint, "InvalidSignatureException", 403, "signature", EndpointName="hydro", Body=b"1")

# And its end.
for endpoint in ("hydro", "broken"):
    validated(control, "delete_endpoint")(EndpointName=endpoint)
    control.get_waiter("endpoint_deleted").wait(EndpointName=endpoint, WaiterConfig={"Delay": 0.2, "MaxAttempts": 100})
for config in ("first", "second", "broken", "both"):
    validated(control, "delete_endpoint_config")(EndpointConfigName=config)
for model in ("first", "second", "broken"):
    validated(control, "delete_model")(ModelName=model)
assert validated(control, "list_models")()["Models"] == []
print(f"{len(seen)} requests during two updates")
