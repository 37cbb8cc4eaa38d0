"""The learners: LightGBM, kernel ridge regression and linear ridge regression."""
import base64

import lightgbm as lgb
import numpy as np
from scipy.linalg import solve

LANDMARKS = 600
KERNEL_WIDTH = 0.1
CLIP = 4.0
LINEAR_RIDGE = 30.0


def boost(matrix, target, configuration, quantile=None, rounds=150, leaf=20, leaves=15, rate=0.05):
    """A LightGBM booster on matrix (n, F), target (n,): squared error, or the quantile loss of a level.

    Bagging and column sampling use fixed seeds; row-wise histograms and `deterministic` give the same
    trees in every run with any number of threads.
    """
    parameters = {
        "objective": "l2" if quantile is None else "quantile", "learning_rate": rate,
        "num_leaves": leaves, "min_data_in_leaf": leaf, "feature_fraction": 0.5, "bagging_fraction": 0.7,
        "bagging_freq": 1, "lambda_l2": 1.0, "max_bin": 127, "num_threads": configuration.threads,
        "seed": configuration.seed, "deterministic": True, "force_row_wise": True, "verbose": -1,
    }
    if quantile is not None:
        parameters["alpha"] = quantile
    return lgb.train(parameters, lgb.Dataset(matrix, target), rounds)


def encode(array):
    """A float array as text for JSON, exact to the bit."""
    array = np.ascontiguousarray(array, dtype="<f8")
    return {"shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}


def decode(d):
    """The reverse of `encode`."""
    return np.frombuffer(base64.b64decode(d["base64"]), dtype="<f8").reshape(d["shape"]).copy()


class Kernel:
    """Kernel ridge regression with a Gaussian kernel on standardised features and Nyström landmarks
    (Williams and Seeger 2001), one column of coefficients per horizon."""

    def __init__(self, mean, scale, landmarks, coefficients, intercept):
        self.mean, self.scale, self.landmarks = mean, scale, landmarks
        self.coefficients, self.intercept = coefficients, intercept

    @staticmethod
    def fit(matrix, targets, ridges, seed):
        """matrix (n, F) with NaN for missing, targets (n, H) with NaN for missing, ridges (H,)."""
        mean = np.nan_to_num(np.nanmean(np.where(np.isfinite(matrix), matrix, np.nan), axis=0))
        scale = np.nan_to_num(np.nanstd(matrix, axis=0)) + 1e-9
        model = Kernel(mean, scale, None, None, None)
        points = model.standardise(matrix)
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(len(points), min(LANDMARKS, len(points)), replace=False))
        model.landmarks = points[chosen]
        values, among = model.kernel(points), model.kernel(model.landmarks)
        model.intercept = np.nanmean(targets, axis=0)
        model.coefficients = np.empty((len(chosen), targets.shape[1]))
        complete = np.isfinite(targets).all(axis=1)
        grams = {}
        for h, ridge in enumerate(ridges):
            known = np.isfinite(targets[:, h])
            # The horizons differ in few missing targets; those complete share one Gram matrix.
            key = "all" if complete.sum() > 0.97 * known.sum() else h
            rows = complete if key == "all" else known
            if key not in grams:
                grams[key] = values[rows].T @ values[rows]
            right = values[rows].T @ (targets[rows, h] - model.intercept[h])
            left = grams[key] + ridge * among + 1e-6 * len(points) * np.eye(len(chosen))
            model.coefficients[:, h] = solve(left, right, assume_a="pos")
        return model

    def standardise(self, matrix):
        """Centred, scaled, clipped features; missing ones at their mean."""
        return np.clip(np.nan_to_num((matrix - self.mean) / self.scale), -CLIP, CLIP)

    def kernel(self, points):
        """Gaussian kernel (n, landmarks)."""
        marks = self.landmarks
        distance = (points ** 2).sum(1)[:, None] + (marks ** 2).sum(1)[None] - 2 * points @ marks.T
        return np.exp(-KERNEL_WIDTH / points.shape[1] * np.maximum(distance, 0.0))

    def predict(self, matrix):
        """Predictions (n, H) in blocks, to bound the memory."""
        parts = [self.kernel(self.standardise(matrix[i:i + 4096])) @ self.coefficients
                 for i in range(0, len(matrix), 4096)]
        return np.concatenate(parts) + self.intercept

    def as_dict(self):
        """Exact values for the model's JSON."""
        return {k: encode(getattr(self, k)) for k in ("mean", "scale", "landmarks", "coefficients", "intercept")}

    @staticmethod
    def of_dict(d):
        """The reverse of `as_dict`."""
        return Kernel(**{k: decode(v) for k, v in d.items()})


class Linear:
    """Ridge regression on standardised features (Hoerl and Kennard 1970), one model per horizon."""

    def __init__(self, mean, scale, coefficients, intercept):
        self.mean, self.scale = mean, scale
        self.coefficients, self.intercept = coefficients, intercept

    @staticmethod
    def fit(matrix, target):
        """matrix (n, F) with NaN for missing, target (n,) finite."""
        mean = np.nan_to_num(np.nanmean(matrix, axis=0))
        scale = np.nan_to_num(np.nanstd(matrix, axis=0)) + 1e-9
        model = Linear(mean, scale, None, np.array([target.mean()]))
        points = model.standardise(matrix)
        gram = points.T @ points + LINEAR_RIDGE * np.eye(points.shape[1])
        model.coefficients = solve(gram, points.T @ (target - target.mean()), assume_a="pos")
        return model

    def standardise(self, matrix):
        """Centred, scaled, clipped features; missing ones at their mean."""
        return np.clip(np.nan_to_num((matrix - self.mean) / self.scale), -CLIP, CLIP)

    def predict(self, matrix):
        """Predictions (n,)."""
        return self.standardise(matrix) @ self.coefficients + self.intercept[0]

    def as_dict(self):
        """Exact values for the model's JSON."""
        return {k: encode(getattr(self, k)) for k in ("mean", "scale", "coefficients", "intercept")}

    @staticmethod
    def of_dict(d):
        """The reverse of `as_dict`."""
        return Linear(**{k: decode(v) for k, v in d.items()})
