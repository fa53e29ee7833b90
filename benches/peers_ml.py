"""Detectors and forecasts of Python libraries, over the same values that `bench detect`, `detect-speed` and `accuracy` send to a server.

usage: peers_ml.py detect SERIES.json
       peers_ml.py forecast TRAIN.csv DIR HORIZON SEASON[,SEASON]
`detect` reads {name: [value, ...]} and prints {detector: {version, ns_per_point, scores: {name: [score, ...]}}}, higher is stranger.
`forecast` reads wide CSV (header; name, values), writes DIR/<model>-{forecast,lower,upper}.csv, and prints
{model: {version, cpu_seconds}}. Nothing looks ahead; every library has its own defaults, one configuration for all series.
"""
import csv
import json
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np

# Isolation forest: values side by side, rows between two fits, rows of the past it is fitted on.
WINDOW, REFIT, PAST = 10, 500, 5_000


def half_space_trees(values):
    from river import anomaly, preprocessing

    # the trees want 0 to 1
    scale, trees = preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=1)
    for value in values:
        row = {"value": value}
        scale.learn_one(row)
        row = scale.transform_one(row)
        yield trees.score_one(row)
        trees.learn_one(row)


def gaussian_scorer(values):
    from river import anomaly

    scorer = anomaly.GaussianScorer()
    for value in values:
        yield scorer.score_one(None, value)
        scorer.learn_one(None, value)


def isolation_forest(values):
    from sklearn.ensemble import IsolationForest

    values = np.asarray(values)
    padded = np.concatenate([np.full(WINDOW - 1, values[0]), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    # no score before the first fit
    yield from np.zeros(min(REFIT, len(values)))
    for start in range(REFIT, len(values), REFIT):
        forest = IsolationForest(random_state=1).fit(windows[max(0, start - PAST):start])
        yield from -forest.score_samples(windows[start:start + REFIT])


DETECTORS = {
    "river_half_space_trees": ("river", half_space_trees),
    "river_gaussian_scorer": ("river", gaussian_scorer),
    "sklearn_isolation_forest": ("scikit-learn", isolation_forest),
}


def detect(path):
    with open(path) as file:
        series = json.load(file)
    points, result = sum(map(len, series.values())), {}
    for name, (package, detector) in DETECTORS.items():
        list(detector([0.0] * (REFIT + 1)))  # imports and first calls are not counted
        begun = time.process_time()
        scores = {key: [float(score) for score in detector(values)] for key, values in series.items()}
        seconds = time.process_time() - begun
        result[name] = {"version": f"{package} {version(package)}", "ns_per_point": seconds * 1e9 / points, "scores": scores}
    return result


def models(seasons):
    from statsforecast.models import MSTL, AutoETS, AutoTheta

    made = {"autoets": AutoETS(season_length=seasons[0]), "autotheta": AutoTheta(season_length=seasons[0])}
    if seasons[0] > 1:
        made["mstl"] = MSTL(season_length=seasons)
    return made


def forecast(path, folder, horizon, seasons):
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    series = {row[0]: np.array([float(cell) for cell in row[1:] if cell != ""]) for row in rows}
    result = {}
    for name, model in models(seasons).items():
        model.forecast(y=next(iter(series.values())), h=horizon, level=[95])  # as above
        begun = time.process_time()
        answers = {key: model.forecast(y=values, h=horizon, level=[95]) for key, values in series.items()}
        seconds = time.process_time() - begun
        for column, key in (("forecast", "mean"), ("lower", "lo-95"), ("upper", "hi-95")):
            with open(f"{folder}/{name}-{column}.csv", "w", newline="") as file:
                out = csv.writer(file)
                out.writerow(["id", "values"])
                out.writerows([series_name, *map(float, answer[key])] for series_name, answer in answers.items())
        result[name] = {"version": f"statsforecast {version('statsforecast')}", "cpu_seconds": seconds}
    return result


def main():
    warnings.filterwarnings("ignore")
    if sys.argv[1] == "detect":
        result = detect(sys.argv[2])
    else:
        path, folder, horizon, seasons = sys.argv[2:6]
        result = forecast(path, folder, int(horizon), [int(season) for season in seasons.split(",")])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
