#!/opt/bin/bash
# Serves a model by SageMaker's container contract, with a script that has model_fn and the like.
exec /opt/bin/python3 /opt/cpython/sagemaker/serving.py
