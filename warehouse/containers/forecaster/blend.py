"""Weights of the members per horizon, and the gate that falls back to a baseline.

Weights are not negative and sum to one (Bates and Granger 1969; Breiman 1996, "Stacked regressions").
They are fitted on out-of-fold forecasts, so a member that fits its training years too closely gains
nothing by it.
"""
import numpy as np
from scipy.optimize import nnls

SHRINKAGE = 0.1
NEIGHBOUR = 0.5
GATE_MARGIN = 0.01
GATE_SHARE = 0.6


def simplex_weights(gram, cross, prior, shrinkage):
    """Weights (M,) minimising w'Gw - 2c'w + shrinkage * trace-scaled |w - prior|^2 on the simplex."""
    members = len(prior)
    scale = shrinkage * np.trace(gram) / members
    left = gram + scale * np.eye(members)
    right = cross + scale * prior
    root = np.linalg.cholesky(left + 1e-12 * np.trace(left) * np.eye(members))
    # A heavy last row holds the sum at one; the result is normalised to make it exact.
    heavy = 1e3 * np.sqrt(np.trace(left))
    matrix = np.vstack([root.T, np.full(members, heavy)])
    vector = np.append(np.linalg.solve(root, right), heavy)
    weights = nnls(matrix, vector)[0]
    return weights / weights.sum()


def error_grams(members, truth, folds):
    """Per fold and horizon the Gram matrix of the members' errors, divided by the variance of the
    truth: (K, H, M, M). members (n, H, M), truth (n, H), folds (n,) of 0..K-1, -1 for none."""
    count = int(folds.max()) + 1
    out = np.zeros((count, truth.shape[1], members.shape[2], members.shape[2]))
    for h in range(truth.shape[1]):
        error = members[:, h] - truth[:, h:h + 1]
        known = np.isfinite(error).all(axis=1)
        scale = np.nanvar(truth[:, h]) or 1.0
        for k in range(count):
            rows = error[known & (folds == k)]
            out[k, h] = rows.T @ rows / scale
    return out


def fit_weights(grams, horizons, prior):
    """Weights (H, M) of the folds' error Grams (K, H, M, M); prior (H, M).

    Each is the mean of the weights without one fold, and borrows from the neighbouring horizons, so
    that one odd year or one odd horizon moves it little.
    """
    total = grams.sum(axis=0)
    near = NEIGHBOUR ** np.abs(np.subtract.outer(horizons, horizons))
    near[near < 0.2] = 0.0
    near /= near.sum(axis=1, keepdims=True)
    size = np.trace(total, axis1=1, axis2=2)[:, None, None] + 1e-300
    weights = np.zeros(prior.shape)
    for k in range(len(grams)):
        left_out = np.einsum("hk,kij->hij", near, (total - grams[k]) / size)
        for h in range(len(horizons)):
            # With weights that sum to one the error of the blend is w'Gw of the error Gram.
            weights[h] += simplex_weights(left_out[h], np.zeros(prior.shape[1]), prior[h], SHRINKAGE)
    return weights / len(grams)


def out_of_fold_errors(grams, horizons, prior):
    """Sum of squared errors (K, H) of the blend in each fold, with the weights of the other folds."""
    out = np.empty(grams.shape[:2])
    for k in range(len(grams)):
        weights = fit_weights(np.delete(grams, k, axis=0), horizons, prior)
        out[k] = np.einsum("hi,hij,hj->h", weights, grams[k], weights)
    return out


def gate(grams, horizons, prior, weights, baselines):
    """Replaces the weights of horizons at which the blend does not beat the baselines.

    baselines: indices of the members that count as such. The blend must be better by GATE_MARGIN in
    total and in GATE_SHARE of the folds than the best of them. Returns weights (H, M), passed (H,).
    """
    blend = out_of_fold_errors(grams, horizons, prior)
    single = np.stack([grams[:, :, b, b] for b in baselines], axis=2)
    best = np.argmin(single.sum(axis=0), axis=1)
    rival = np.take_along_axis(single, best[None, :, None], axis=2)[:, :, 0]
    better = blend.sum(axis=0) < (1.0 - GATE_MARGIN) * rival.sum(axis=0)
    steady = (blend < rival).mean(axis=0) >= GATE_SHARE
    passed = better & steady
    out = weights.copy()
    for h in np.where(~passed)[0]:
        out[h] = 0.0
        out[h, baselines[best[h]]] = 1.0
    return out, passed
