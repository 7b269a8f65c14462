"""Compiled models: every candidate and task as its original says it, difficult rows included; a wrong one is never used."""

import json
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiplat.core import evidence
from aiplat.core.errors import UserError
from aiplat.core.refs import find_model
from aiplat.core.workspace import create, workspace
from aiplat.release.serving import bundles
from aiplat.release.serving.compiled import Trees, compile_model
from aiplat.release.serving.fields import Field, Schema
from aiplat.release.serving.graphs import tree_graph
from aiplat.release.serving.original import Original, columns_of
from aiplat.release.serving.parity import compare, thresholds
from aiplat.release.serving.shelves import load_program, save_program
from aiplat.release.serving.trees import Uncompiled
from aiplat.training.candidates import build
from aiplat.training.columns import usable_columns
from aiplat.training.mixtures import AtThreshold, RandomizedClassifier
from aiplat.training.spaces import candidates
from aiplat.training.thresholds import GroupThresholds

warnings.filterwarnings("ignore")
KINDS = {"age": "number", "income": "number", "member": "boolean", "city": "text", "shop": "text", "since": "datetime"}
SCHEMA = Schema(tuple(Field(name, kind) for name, kind in KINDS.items()))
SMALL = {"hist_gradient_boosting": {"max_iter": 25}, "lightgbm": {"n_estimators": 25}, "xgboost": {"n_estimators": 25}}


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Gaps, a flag, few levels and more levels than fit into a set, dates, large numbers."""
    rng, n = np.random.default_rng(5), 1200
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n).round(1)),
            "income": rng.lognormal(9, 2, n),
            "member": rng.random(n) < 0.5,
            "city": rng.choice(["Bern", "Lagos", "Lima", "Oslo", ""], n),
            "shop": [f"shop {i}" for i in rng.integers(0, 150, n)],
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 10**8, n), unit="s"),
        }
    )
    frame.loc[rng.random(n) < 0.05, "city"] = None
    frame.loc[rng.random(n) < 0.05, "since"] = pd.NaT
    return frame


def pull(frame: pd.DataFrame) -> np.ndarray:
    """A number that depends on everything."""
    shop = frame["shop"].str[5:].astype(int).to_numpy() % 7
    city = frame["city"].isin(["Lima", "Oslo"]).to_numpy()
    return np.log(frame["income"].to_numpy()) + city + shop / 3 + frame["age"].fillna(60).to_numpy() / 30


def target(frame: pd.DataFrame, task: str) -> np.ndarray:
    """Labels as texts, whole numbers and quantities."""
    score = pull(frame)
    if task == "regression":
        return np.exp(score / 4)
    cuts = np.quantile(score, [0.5] if task == "binary" else [0.3, 0.7])
    codes = np.digitize(score, cuts)
    return np.array(["no", "yes"])[codes] if task == "binary" else codes


def check(model, frame: pd.DataFrame, tmp_path: Path, schema: Schema = SCHEMA):
    """The program as it is read from files passes, and finds the thresholds it is tried on."""
    program = compile_model(model)
    save_program(program, tmp_path)
    found = compare(load_program(tmp_path).run, Original(model, schema), frame, thresholds(program))
    assert found.passed, found.problems
    assert found.labels == 0 and found.largest <= 1e-5 and found.real == len(frame) and found.rows > found.real + 30
    assert {"nothing known", "gaps in age"} <= set(found.families)
    return found


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", list(candidates("binary")))
def test_every_candidate_answers_as_its_original(name: str, task: str, people: pd.DataFrame, tmp_path: Path) -> None:
    model = build(name, usable_columns(people), SMALL.get(name, {}), task=task).fit(people, target(people, task))
    found = check(model, people, tmp_path)
    # a linear model in front of which columns are joined compares with no threshold
    assert ("thresholds of income" in found.families) == (name != "linear")


def test_mitigated_models_decide_alike_to_the_last_draw(people: pd.DataFrame, tmp_path: Path) -> None:
    features = [name for name in people if name not in ("since", "city")]
    frame, y = people[[*features, "city"]], target(people, "binary")
    schema = Schema(tuple(Field(name, KINDS[name]) for name in frame))
    base = build("hist_gradient_boosting", usable_columns(people[features]), {"max_iter": 10}, task="binary")
    groups = GroupThresholds(base, ["city"], features, "yes", folds=2, smallest=40, seed=3).fit(frame, y)
    drawn = RandomizedClassifier(base, ["city"], features, "yes", iterations=3, smallest=40, seed=4).fit(frame, y)
    at = AtThreshold(base, "yes", 0.37).fit(frame[features], y)
    for i, model in enumerate((groups, drawn, at)):
        (tmp_path / str(i)).mkdir()
        check(model, frame, tmp_path / str(i), schema)


def test_what_people_write_themselves(people: pd.DataFrame, tmp_path: Path) -> None:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = people[["age", "income"]]
    schema = Schema((Field("age", "number"), Field("income", "number")))
    y = target(people, "binary") == "yes"
    chain = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(numbers, y)
    boosted = make_pipeline(SimpleImputer(add_indicator=True), GradientBoostingClassifier(n_estimators=10)).fit(
        numbers, y
    )
    bare = LogisticRegression(max_iter=2000).fit(numbers.fillna(0), y)
    for i, model in enumerate((chain, boosted, bare)):
        (tmp_path / str(i)).mkdir()
        found = check(model, numbers if i < 2 else numbers.fillna(0), tmp_path / str(i), schema)
        # trees in single precision take no huge numbers and the bare model takes no gaps, compiled or not
        assert (found.refused > 0) == (i > 0)


def test_what_is_not_known_is_refused(people: pd.DataFrame) -> None:
    from lightgbm import LGBMRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures
    from xgboost import XGBClassifier

    numbers, y = people[["income"]], target(people, "binary") == "yes"
    for model in (
        KNeighborsClassifier(),
        make_pipeline(PolynomialFeatures(), LinearRegression()),
        LGBMRegressor(n_estimators=3, verbose=-1, objective="cross_entropy"),
        LGBMRegressor(n_estimators=3, verbose=-1, zero_as_missing=True),
        LGBMRegressor(n_estimators=3, verbose=-1, linear_tree=True),
        XGBClassifier(n_estimators=3, booster="dart"),
        XGBClassifier(n_estimators=3, missing=-1.0),
    ):
        with pytest.raises(Uncompiled):
            compile_model(model.fit(numbers, y))


WRONG = {
    "thresholds in single precision": lambda tree: replace(
        tree, threshold=tree.threshold.astype(np.float32).astype(float)
    ),
    "gaps on the other side": lambda tree: replace(tree, gaps_left=~tree.gaps_left),
    "a level less in each set": lambda tree: replace(
        tree, levels={node: left & (np.arange(len(left)) != left.argmax()) for node, left in tree.levels.items()}
    ),
    "strictly less": lambda tree: replace(tree, threshold=np.nextafter(tree.threshold, -np.inf)),
    "leaves in single precision of a thousandth": lambda tree: replace(tree, value=tree.value * 1.001),
}


@pytest.mark.parametrize("how", list(WRONG))
def test_a_conversion_made_wrong_on_purpose_is_found(how: str, people: pd.DataFrame) -> None:
    frame = people.drop(columns=["since"])
    schema = Schema(tuple(Field(name, KINDS[name]) for name in frame))
    columns = usable_columns(frame)
    model = build("hist_gradient_boosting", columns, {"max_iter": 25}, task="binary").fit(
        frame, target(people, "binary")
    )
    program, right = compile_model(model), thresholds(compile_model(model))
    assert compare(program.run, Original(model, schema), frame, right).passed
    core = program.model.core
    ensemble = replace(core.ensemble, trees=tuple(WRONG[how](tree) for tree in core.ensemble.trees))
    encoder = program.model.encoder
    start = len(encoder.numbers)
    levels = {start + i: len(known) for i, known in enumerate(encoder.texts.values())}
    program.model.core = Trees(*tree_graph(ensemble, levels, encoder.width), ensemble)
    found = compare(program.run, Original(model, schema), frame, right)
    assert not found.passed and found.problems


# ---- bundles


@pytest.fixture(scope="module")
def registered(people: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory):
    from aiplat.release.versions import register
    from aiplat.training.runs import log_run

    before = {name: os.environ.get(name) for name in ("AIPLAT_HOME", "AIPLAT_USER")}
    home = tmp_path_factory.mktemp("home")
    os.environ |= {"AIPLAT_HOME": str(create(home).root), "AIPLAT_USER": "alice"}
    ws, y = workspace(), target(people, "binary")
    model = build("lightgbm", usable_columns(people), {"n_estimators": 20}, task="binary").fit(people, y)
    rows = people.assign(bought=y)
    about = {"task": "binary", "target": "bought", "positive": "yes", "features": list(people)}
    run = log_run(ws, "train", model, train=rows[:900], test=rows[900:], **about).run
    register(run.id, "shop")
    yield ws, find_model(ws, "shop/1"), model
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_a_bundle_is_made_once_and_leaves_evidence(registered, people: pd.DataFrame) -> None:
    ws, version, model = registered
    place = ws.state / "endpoints" / "shop" / "bundles"
    made = []
    threads = [threading.Thread(target=lambda: made.append(bundles.prepare(ws, version, place))) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(made) == 2 and made[0] == made[1] == bundles.prepare(ws, version, place)
    assert [path.name for path in place.iterdir()] == [version.model_digest[:16]]
    left = evidence.find(ws, "parity", model_digest=version.model_digest)
    assert left and left[0].outcome == "pass" and left[0].subject == "model:shop/1" and left[0].measured["labels"] == 0
    scorer = bundles.load(made[0].folder)
    said = scorer.score(columns_of(people[900:], scorer.bundle.schema))
    assert scorer.bundle.form == "onnx" and (said.prediction == model.predict(people[900:])).all()
    assert (
        scorer.bundle.schema["city"].levels and scorer.bundle.schema["income"].high > scorer.bundle.schema["income"].low
    )


def test_a_worker_needs_no_pandas_and_no_scikit_learn(registered) -> None:
    ws, version, _ = registered
    bundle = bundles.prepare(ws, version, ws.state / "endpoints" / "shop" / "bundles")
    code = f"""
import sys
from pathlib import Path
from aiplat.release.serving.bundles import load
scorer = load(Path({str(bundle.folder)!r}))
said = scorer.score(scorer.bundle.schema.columns([scorer.bundle.schema.example()]))
assert len(said) == 1 and said.classes == ("no", "yes") and abs(said.scores.sum() - 1) < 1e-9
print([name for name in ("pandas", "sklearn", "mlflow", "lightgbm", "skops", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout


def test_an_unfaithful_form_is_not_served(registered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aiplat.release.serving import compiled

    ws, version, _ = registered
    right = compiled.tree_graph

    def wrong(ensemble, levels, width):
        return right(
            replace(ensemble, trees=tuple(WRONG["gaps on the other side"](tree) for tree in ensemble.trees)),
            levels,
            width,
        )

    monkeypatch.setattr(compiled, "tree_graph", wrong)
    bundle = bundles.prepare(ws, version, tmp_path)
    assert bundle.form == "original" and "not faithful" in bundle.why
    assert evidence.find(ws, "parity", model_digest=version.model_digest)[0].outcome == "fail"
    assert [file.name for file in sorted(bundle.folder.iterdir())] == ["bundle.json", "model.skops"]
    scorer = bundles.load(bundle.folder)
    record = scorer.bundle.schema.example()
    assert scorer.score(scorer.bundle.schema.columns([record])).prediction[0] in ("no", "yes")
    scorer.close()


def test_files_that_were_touched_are_refused(registered, tmp_path: Path) -> None:
    ws, version, _ = registered
    bundle = bundles.prepare(ws, version, tmp_path)
    for name in bundle.files:
        file = bundle.folder / name
        kept = file.read_bytes()
        file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(UserError, match="not what it was"):
            bundles.load(bundle.folder)
        file.write_bytes(kept)
    bundles.load(bundle.folder)
    (bundle.folder / "bundle.json").write_text(json.dumps({"name": "shop"}))
    with pytest.raises(UserError, match="no bundle"):
        bundles.load(bundle.folder)
    assert bundles.prepare(ws, version, tmp_path).folder == bundle.folder and bundles.load(bundle.folder)


def test_slow_models_answer_many_threads_together(people: pd.DataFrame) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    from aiplat.release.serving.batching import Together

    numbers, y = people[["income"]], target(people, "binary")
    original = Original(KNeighborsClassifier().fit(numbers, y), Schema((Field("income", "number"),)))
    together = Together(original.run)
    wanted = original.of_frame(numbers[:200]).prediction
    said: dict[int, object] = {}

    def ask(start: int) -> None:
        for i in range(start, 200, 8):
            said[i] = together.ask({"income": numbers["income"].to_numpy()[i : i + 1]}).result(60).prediction[0]

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    together.close()
    assert [said[i] for i in range(200)] == list(wanted) and together.calls < 200
