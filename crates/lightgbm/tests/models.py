"""Trains models of all kinds with LightGBM, and writes each with rows and LightGBM's own predictions of them.

models.py FOLDER SEED
"""

import json
import sys
from pathlib import Path

import lightgbm
import numpy
import pandas

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
random = numpy.random.default_rng(seed)

ROWS, COLUMNS = 400, 8


def numbers():
    values = random.normal(size=(ROWS, COLUMNS)) * random.choice([1e-3, 1.0, 1e4], size=COLUMNS)
    values[random.random(values.shape) < 0.1] = numpy.nan
    values[random.random(values.shape) < 0.1] = 0.0
    return values


def train(name, label, parameters, values=None, categories=None, rounds=12, group=None, weight=None, **predicted):
    values = numbers() if values is None else values
    objective = parameters.get("objective")
    settings = {"verbosity": -1, "num_leaves": 15, "min_data_in_leaf": 5, "seed": seed, "num_threads": 1} | parameters
    data = lightgbm.Dataset(values, label, group=group, weight=weight, categorical_feature=categories or "auto")
    booster = lightgbm.train(settings, data, num_boost_round=rounds)
    booster.save_model(folder / f"{name}.txt")
    asked = values.copy()
    if isinstance(asked, numpy.ndarray):
        # Values that no row of the training had.
        asked[:20] = numpy.nan
        asked[20:40] = random.normal(size=(20, asked.shape[1])) * 1e6
        asked[40:50] = 0.0
        rows = [[None if numpy.isnan(value) else value for value in row] for row in asked.tolist()]
    else:
        rows = [[None if value is None or value != value else value for value in row] for row in asked.astype(object).values.tolist()]
    answer = booster.predict(asked, **predicted)
    raw = booster.predict(asked, raw_score=True, **predicted)
    two = lambda found: numpy.asarray(found).reshape(len(asked), -1).tolist()
    written = {"rows": rows, "predicted": two(answer), "raw": two(raw), "options": predicted}
    (folder / f"{name}.json").write_text(json.dumps(written))


base = numbers()
signal = numpy.nan_to_num(base[:, 0]) / (numpy.nanstd(base[:, 0]) or 1) + random.normal(size=ROWS) * 0.1
positive = numpy.exp(signal / 4)
classes = numpy.digitize(signal, [-0.7, 0.0, 0.7])
binary = (signal > 0).astype(float)

for objective in ["regression", "regression_l1", "huber", "fair", "quantile", "mape"]:
    train(objective, signal, {"objective": objective}, base)
for objective in ["poisson", "gamma", "tweedie"]:
    train(objective, positive, {"objective": objective}, base)
train("square", signal * 9, {"objective": "regression", "reg_sqrt": True}, base)
train("binary", binary, {"objective": "binary", "sigmoid": 0.7}, base)
train("cross_entropy", 1 / (1 + numpy.exp(-signal)), {"objective": "cross_entropy"}, base)
train("cross_entropy_lambda", 1 / (1 + numpy.exp(-signal)), {"objective": "cross_entropy_lambda"}, base)
train("multiclass", classes, {"objective": "multiclass", "num_class": 4}, base)
train("one_against_all", classes, {"objective": "multiclassova", "num_class": 4, "sigmoid": 1.3}, base)
train("rank", classes, {"objective": "lambdarank"}, base, group=[20] * (ROWS // 20))
train("rank_cross_entropy", classes, {"objective": "rank_xendcg"}, base, group=[20] * (ROWS // 20))
train("own_objective", signal, {"objective": lambda predicted, data: (predicted - data.get_label(), numpy.ones(ROWS))}, base)

bagged = {"bagging_freq": 1, "bagging_fraction": 0.6, "feature_fraction": 0.7}
train("forest", signal, {"objective": "regression", "boosting": "rf"} | bagged, base)
train("forest_binary", binary, {"objective": "binary", "boosting": "rf"} | bagged, base)
train("forest_classes", classes, {"objective": "multiclass", "num_class": 4, "boosting": "rf"} | bagged, base)
train("dart", signal, {"objective": "regression", "boosting": "dart", "drop_rate": 0.5}, base)
train("goss", signal, {"objective": "regression", "data_sample_strategy": "goss"}, base)

train("zero_is_missing", signal, {"objective": "regression", "zero_as_missing": True}, base)
train("no_missing", signal, {"objective": "regression", "use_missing": False}, base)
train("linear", signal, {"objective": "regression", "linear_tree": True, "linear_lambda": 0.1}, base)
train("one_leaf", numpy.full(ROWS, 3.5), {"objective": "regression"}, base)
train("few_rows", signal, {"objective": "regression", "min_data_in_leaf": 150}, base)
train("monotone", signal, {"objective": "regression", "monotone_constraints": [1] + [0] * (COLUMNS - 1)}, base)

few = base.copy()
few[:, 2] = random.integers(0, 3, ROWS)
few[:, 3] = random.integers(0, 200, ROWS)
few[random.random(ROWS) < 0.1, 3] = numpy.nan
grouped = signal + few[:, 2] + (numpy.nan_to_num(few[:, 3]) % 7)
wide = {"objective": "regression", "min_data_per_group": 5, "cat_smooth": 1.0, "max_cat_to_onehot": 4}
train("categories", grouped, wide, few, categories=[2, 3])
train("categories_binary", (grouped > 4).astype(float), wide | {"objective": "binary"}, few, categories=[2, 3])

frame = pandas.DataFrame({"flow": base[:, 0], "rain": base[:, 1]})
frame["river"] = pandas.Categorical.from_codes(random.integers(-1, 5, ROWS), ["Isère", "Drac", "Arc", "Romanche", "Doron"])
frame["turbines"] = pandas.Categorical(random.choice([1, 2, 4], ROWS))
train("pandas", signal + frame["river"].cat.codes + frame["turbines"].astype(int), wide, frame)

# LightGBM writes "none" for a column that it has not used, as it does for a category of one value.
frame = pandas.DataFrame({"flow": base[:, 0], "site": numpy.ones(ROWS)})
frame["turbines"] = pandas.Categorical(random.choice([10, 20, 40], ROWS))
frame["gates"] = pandas.Categorical(numpy.where(random.random(ROWS) < 0.1, numpy.nan, random.choice([1, 2, 4], ROWS)))
# Neighbours that are one number as floats.
frame["meter"] = pandas.Categorical(random.choice([2**53, 2**53 + 1, 2**53 + 2], ROWS))
frame["is_open"] = pandas.Categorical(random.random(ROWS) < 0.5)
extra = frame["gates"].astype(float).fillna(0) + frame["is_open"].astype(int) * 3 + frame["meter"].cat.codes
train("pandas_constant", signal + frame["turbines"].astype(int) / 10 + extra, wide, frame)

train("first_iterations", signal, {"objective": "regression"}, base, num_iteration=5)
train("stopped_binary", binary, {"objective": "binary"}, base, rounds=60, pred_early_stop=True, pred_early_stop_freq=5, pred_early_stop_margin=1.5)
train("stopped_classes", classes, {"objective": "multiclass", "num_class": 4}, base, rounds=60, pred_early_stop=True, pred_early_stop_freq=5, pred_early_stop_margin=1.5)
