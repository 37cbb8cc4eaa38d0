#!/opt/bin/bash
# Trains a model by SageMaker's container contract, with a script of script mode.
exec /opt/bin/python3 /opt/cpython/sagemaker/training.py
