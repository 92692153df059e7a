"""How many of the inputs that an output is made of does its correlation with each input find?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xairt.runs import Benchmark, RunConfig, Sweep, setting


class Settings(RunConfig):
    n_samples: Sweep[int] = setting("generate", (100, 1000), description="samples, one case for each")
    n_relevant: int = setting("generate", 5, description="inputs, of 50, that make the output", ge=1, le=49)
    noise: float = setting("generate", 5.0, description="standard deviation of the noise", ge=0)
    seed: int = setting("generate", 0, description="of the samples", ge=0)
    color: str = setting("figures", "tab:blue", description="of the bars")


def generate(case):
    random = np.random.default_rng(case.config.seed)
    x = random.normal(size=(case.config.n_samples, 50))
    y = x[:, : case.config.n_relevant].sum(axis=1) + case.config.noise * random.normal(size=len(x))
    np.savez(case.write("data.npz"), x=x, y=y)


def score(case):
    with np.load(case.read("data.npz")) as data:
        correlation = np.corrcoef(data["x"].T, data["y"])[-1, :-1]
    ranked = {"correlation": abs(correlation), "random": np.random.default_rng(0).normal(size=50)}
    k = case.config.n_relevant
    found = {label: np.mean(np.argsort(values)[-k:] < k) for label, values in ranked.items()}
    rows = {"label": found.keys(), "metric": "precision", "statistic": "value", "value": found.values()}
    return pd.DataFrame(rows)


def figures(run, output):
    table = run.scores.query("label == 'correlation'")
    axes = table.plot.bar(x="case", y="value", color=run.config.color, ylabel="share", ax=Figure().subplots())
    axes.figure.savefig(output / "share-found.png")


BENCHMARK = Benchmark(
    name="relevant-inputs",
    title="Correlation as a finder of relevant inputs",
    config=Settings,
    cases=lambda settings: {f"n{n}": {"n_samples": n} for n in settings.n_samples},
    generate=generate,
    score=score,
    figures=figures,
    presets={"quick": {"n_samples": (50, 500)}, "standard": {}},
)
