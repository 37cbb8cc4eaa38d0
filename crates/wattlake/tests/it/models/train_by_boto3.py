"""A model is trained, deployed and asked by an unmodified boto3: train_by_boto3.py URL."""

import json
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

settings = {
    "endpoint_url": sys.argv[1], "region_name": "eu-west-3", "aws_access_key_id": "any", "aws_secret_access_key": "any",
    "config": Config(retries={"max_attempts": 1, "mode": "standard"}),
}
control, runtime = boto3.client("sagemaker", **settings), boto3.client("sagemaker-runtime", **settings)
image = "000000000000.dkr.ecr.eu-west-3.amazonaws.com/sagemaker-scikit-learn:1"
role = "arn:aws:iam::000000000000:role/any-role"


def train(name, seconds=600, **hyperparameters):
    return control.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "rows", "Regex": "rows=([0-9]+)"}],
        },
        RoleArn=role,
        # The SDK writes each value as JSON, and says so where the script is.
        HyperParameters={"sagemaker_program": '"script.py"', "sagemaker_submit_directory": '"s3://code/script.tar.gz"'}
        | {key: json.dumps(value) for key, value in hyperparameters.items()},
        InputDataConfig=[
            {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://code/rows"}}}
        ],
        OutputDataConfig={"S3OutputPath": "s3://code/output"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": seconds},
    )


def refused(call, text, **members):
    try:
        call(**members)
    except ClientError as error:
        assert text in str(error), error
        return
    raise AssertionError(f"{members} was not refused")


def wait(name):
    while (found := control.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] in ("InProgress", "Stopping"):
        time.sleep(0.1)
    return found


assert train("first", scale=3)["TrainingJobArn"].endswith("training-job/first")
refused(train, "must be unique", name="first")
found = wait("first")
assert found["TrainingJobStatus"] == "Completed" and found["SecondaryStatus"] == "Completed", found
assert found["FinalMetricDataList"][0]["Value"] == 2.0, found
assert found["TrainingTimeInSeconds"] >= 1 and found["HyperParameters"]["scale"] == "3", found
data = found["ModelArtifacts"]["S3ModelArtifacts"]

control.create_model(ModelName="first", PrimaryContainer={"Image": image, "ModelDataUrl": data}, ExecutionRoleArn=role)
variant = {"VariantName": "main", "ModelName": "first", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
control.create_endpoint_config(EndpointConfigName="first", ProductionVariants=[variant])
control.create_endpoint(EndpointName="first", EndpointConfigName="first")
control.get_waiter("endpoint_in_service").wait(EndpointName="first", WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
answer = runtime.invoke_endpoint(EndpointName="first", Body="[1, 2]", ContentType="application/json")
assert json.loads(answer["Body"].read()) == [33.0, 34.0], answer

train("second", fails=True)
found = wait("second")
assert found["TrainingJobStatus"] == "Failed" and "ValueError: as asked" in found["FailureReason"], found
train("third", waits=True)
while control.describe_training_job(TrainingJobName="third")["SecondaryStatus"] != "Training":
    time.sleep(0.1)
control.stop_training_job(TrainingJobName="third")
found = wait("third")
assert found["TrainingJobStatus"] == "Stopped", found
refused(control.stop_training_job, "has ended", TrainingJobName="third")
refused(control.describe_training_job, "not found", TrainingJobName="fourth")
names = [row["TrainingJobName"] for row in control.list_training_jobs(SortBy="Name", SortOrder="Ascending")["TrainingJobSummaries"]]
assert names == ["first", "second", "third"], names
assert [row["TrainingJobName"] for row in control.list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"]] == ["second"]
