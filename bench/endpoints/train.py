"""Trains the model of the benchmark: 200 trees over 40 columns. train.py FILE MLFLOW_FOLDER"""

import sys

import lightgbm
import numpy

random = numpy.random.default_rng(1)
rows = random.normal(size=(20_000, 40))
label = rows[:, :5].sum(axis=1) + rows[:, 5] * rows[:, 6] + random.normal(size=len(rows)) * 0.1
settings = {"objective": "regression", "num_leaves": 31, "verbosity": -1, "num_threads": 1, "seed": 1}
booster = lightgbm.train(settings, lightgbm.Dataset(rows, label), num_boost_round=200)
booster.save_model(sys.argv[1])
if len(sys.argv) > 2:
    import mlflow.lightgbm

    mlflow.lightgbm.save_model(booster, sys.argv[2])
