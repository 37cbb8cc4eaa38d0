"""Training entry point (SageMaker script mode): fits every site of the training channel.

Reads *.csv with the columns site, series, at, known_at, value from SM_CHANNEL_TRAIN; writes the model
into SM_MODEL_DIR and, with --backtest-from, scores and a report into SM_OUTPUT_DATA_DIR.
"""
import os

# One thread for matrix products: sums in a fixed order give the same bytes on every run.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import glob
import sys
import time

import numpy as np

import backtest
import report
from bitemporal import parse_instants, read_files
from configuration import InputError, add_arguments, from_arguments
from features import SiteData
from model import SiteModel, save_models


def parse_arguments(argv=None):
    """Hyperparameters and folders; unknown hyperparameters are an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--backtest-from", default="", help="first issue time that is tested out of sample")
    parser.add_argument("--backtest-to", default="", help="last issue time that is tested")
    parser.add_argument("--refit", default="true", help="fit the saved model to all data after the backtest")
    base = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", f"{base}/model"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN", f"{base}/input/data/train"))
    parser.add_argument("--output-data-dir",
                        default=os.environ.get("SM_OUTPUT_DATA_DIR", f"{base}/output/data"))
    return parser.parse_args(argv)


def fit_site(records, site, configuration, until):
    """A model of one site from what was known at `until` [s]."""
    known = records.take(records.known <= until)
    return SiteModel(site, configuration).fit(SiteData(known, site, configuration), until)


def run(args):
    """Backtest if wanted, last fit, files. Returns the fitted models."""
    configuration = from_arguments(args)
    paths = sorted(glob.glob(os.path.join(args.train, "*.csv")))
    if not paths:
        raise InputError(f"no *.csv in the training channel {args.train}")
    records = read_files(paths)
    end = int(records.known.max())
    first = int(parse_instants([args.backtest_from], "--backtest-from")[0]) if args.backtest_from else None
    last = int(parse_instants([args.backtest_to], "--backtest-to")[0]) if args.backtest_to else end
    models, tests = [], []
    for site in records.sites():
        started = time.time()
        own = records.take(records.site == site)
        model = None
        if first is not None:
            model = fit_site(own, site, configuration, first)
            data = SiteData(own, site, configuration, model.clock)
            tests.append(backtest.Backtest(model, data, first, min(last, int(own.known.max()))))
        if model is None or args.refit == "true":
            model = fit_site(own, site, configuration, int(own.known.max()))
        models.append(model)
        print(f"site {site}: {time.time() - started:.1f} s", flush=True)
    write(args, configuration, models, tests)
    return models


def write(args, configuration, models, tests):
    """Writes the model, and scores, weights, features and the report beside it."""
    save_models(args.model_dir, models, configuration)
    out = args.output_data_dir
    fitted = [t.model for t in tests] or models
    backtest.write_weights(os.path.join(out, "weights.csv"), fitted)
    backtest.write_features(os.path.join(out, "features.csv"), fitted)
    if not tests:
        return
    rows = backtest.write_scores(os.path.join(out, "scores.csv"), tests)
    backtest.write_backtest(os.path.join(out, "backtest.csv"), tests)
    report.write(os.path.join(out, "report.html"), tests, rows)
    print_metrics(rows, configuration)


def print_metrics(rows, configuration):
    """Prints name=value; lines: the median (nse) or mean over the sites per horizon."""
    for horizon in configuration.horizons:
        own = [r for r in rows if r["horizon"] == horizon and r["method"] == "forecast"]
        print(f"nse_h{horizon}={np.nanmedian([r['nse'] for r in own]):.4f};")
        for name in ("skill_persistence", "coverage", "pinball"):
            print(f"{name}_h{horizon}={np.nanmean([r[name] for r in own]):.4f};")


def main():
    """Exit code 1 with one line on stderr and in the failure file where the input cannot be used."""
    try:
        run(parse_arguments())
    except InputError as error:
        base = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
        if os.path.isdir(f"{base}/output"):
            with open(f"{base}/output/failure", "w", encoding="utf-8") as file:
                file.write(str(error)[:1024])
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
