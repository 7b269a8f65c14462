"""Model files that mean harm, estimators of all kinds there and back, and runs found by many and through a server."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiplat.core import ledger
from aiplat.core.errors import UserError
from aiplat.core.models import freeze, model_bytes, thaw
from aiplat.core.refs import checked_bytes, find_model, find_run, list_runs, load_model
from tests import models, warm

ROWS = 160


# --- files that somebody wrote by hand


def node(name: str, loader: str, **more: Any) -> dict[str, Any]:
    module, _, cls = name.rpartition(".")
    return {"__class__": cls, "__module__": module, "__loader__": loader, **more}


def text(value: Any) -> dict[str, Any]:
    return node("builtins.str", "JsonNode", content=json.dumps(value))


def several(kind: str, *items: dict[str, Any]) -> dict[str, Any]:
    return node(f"builtins.{kind}", f"{kind.capitalize()}Node", content=list(items))


def mapping(**items: dict[str, Any]) -> dict[str, Any]:
    keys = several("list", *(node("builtins.str", "TypeNode") for _ in items))
    return node("builtins.dict", "DictNode", content=items, key_types=keys)


def zipped(content: str | bytes, name: str = "schema.json") -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def forged(schema: dict[str, Any], protocol: int = 2) -> bytes:
    return zipped(json.dumps({"protocol": protocol, "_skops_version": "0.16", **schema}))


def harm(mark: Path) -> dict[str, bytes]:
    """Files that would run a command, or do so once their model is used."""
    command, code = f"touch {mark}", f"open({str(mark)!r}, 'w').close()"
    system, evaluate = node("os.system", "FunctionNode"), node("builtins.eval", "TypeNode")
    called = several("tuple", text(command))
    step = mapping(
        func=system, inverse_func=text(None), validate=text(False), kw_args=text(None), accept_sparse=text(True)
    )
    transformer = node("sklearn.preprocessing._function_transformer.FunctionTransformer", "ObjectNode", content=step)
    partial = {"func": system, "args": called, "kwds": mapping(), "namespace": text(None)}
    method = {"obj": transformer, "func": "__class__"}
    random = {"bit_generator": mapping(bit_generator=text("set_bit_generator")), "seed_seq": mapping()}
    reduced = {"__reduce__": {"args": called}, "content": mapping()}
    old = node("os.system", "FunctionNode", content={"module_path": "os", "function": "system"})
    hidden = node("numpy.log1p", "FunctionNode", content={"module_path": "os", "function": "system"})
    cached = {
        "func": node("x.y", "CachedNode", __id__=7),
        "args": several("tuple"),
        "kwds": mapping(),
        "namespace": text(None),
    }
    return {
        "a function": forged(system),
        "the function of a transformer": forged(transformer),
        "eval as a type": forged(evaluate),
        "a call of eval": forged(
            node("builtins.eval", "ConstructorFromReduceNode", content=several("tuple", text(code)))
        ),
        "a process": forged(
            node("subprocess.Popen", "ConstructorFromReduceNode", content=several("tuple", text(command.split())))
        ),
        "a list that is a process": forged(
            node("subprocess.Popen", "ListNode", content=[text("touch"), text(str(mark))])
        ),
        "a dict that is a function": forged(node("os.getcwd", "DictNode", content={}, key_types=several("list"))),
        "keys of a dict": forged(
            node("builtins.dict", "DictNode", content={code: text(1)}, key_types=several("list", evaluate))
        ),
        "a loss": forged(node("os.system", "LossNode", **reduced)),
        "a tree": forged(
            node("sklearn.tree._tree.Tree", "TreeNode", content=mapping(f=system), __reduce__={"args": called})
        ),
        "a partial": forged(node("functools.partial", "PartialNode", content=partial)),
        "a cached function": forged(
            several("list", {**system, "__id__": 7}, node("functools.partial", "PartialNode", content=cached))
        ),
        "a method": forged(
            node("sklearn.preprocessing._function_transformer.FunctionTransformer", "MethodNode", content=method)
        ),
        "a method caller": forged(node("operator.methodcaller", "OperatorFuncNode", attrs=called)),
        "a random generator": forged(node("numpy.random._generator.Generator", "RandomGeneratorNode", content=random)),
        "an array of functions": forged(
            node("numpy.ndarray", "NdArrayNode", type="json", content=[system], shape=several("tuple", text(1)))
        ),
        "a default factory": forged(
            node("collections.defaultdict", "DefaultDictNode", content={"main": mapping(), "default_factory": system})
        ),
        "an old file": forged(old, protocol=0),
        "an old file with a harmless face": forged(hidden, protocol=0),
        "code of numpy": forged(node("numpy.f2py.compile", "FunctionNode")),
        "a module inside sklearn": forged(node("sklearn.utils._testing.subprocess", "TypeNode")),
        "joblib's cache": forged(node("joblib.memory.Memory", "ObjectNode", content=mapping(location=text("/tmp")))),
        "pandas": forged(node("pandas.read_pickle", "FunctionNode")),
        "our own module": forged(node("aiplat.training.runs.subprocess", "TypeNode")),
        "a pickle": pickle.dumps([1]),
        "a zip without a schema": zipped(b"cos\nsystem\n(S'true'\ntR.", name="model.pkl"),
        "deep nesting": zipped("[" * 200_000 + "]" * 200_000),
        "nothing": b"",
    }


HARM = sorted(harm(Path("/nonexistent")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A workspace with one finished run."""
    ws = models.governed(tmp_path_factory.mktemp("refs"))
    return ws, models.trained(ws).run


def model_file(ws: Any, run: Any) -> Path:
    place = ws.client().get_logged_model(run.model_uri.removeprefix("models:/")).artifact_location
    return Path(place.removeprefix("file://")) / "model.skops"


@pytest.mark.parametrize("name", HARM)
def test_a_harmful_file_is_refused(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "harm"
    with pytest.raises(UserError) as refused:
        thaw(harm(mark)[name])
    assert not mark.exists() and refused.value.todo and "\n" not in refused.value.what


def test_a_harmful_file_that_the_ledger_knows_is_still_refused(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model trained with a harmful part passes the hash and not the list; the list in its MLmodel does not count."""
    ws, run = trained
    file, mark = model_file(ws, run), tmp_path / "harm"
    before, described = file.read_bytes(), (file.parent / "MLmodel").read_text()
    data = harm(mark)["the function of a transformer"]
    try:
        file.write_bytes(data)
        evil = described.replace("skops_trusted_types:", "skops_trusted_types:\n    - os.system\n    - builtins.eval")
        assert evil != described
        (file.parent / "MLmodel").write_text(evil)
        with pytest.raises(UserError, match="not the one that was trained"):
            load_model(ws, run)
        body = {"model_digest": hashlib.sha256(data).hexdigest()}
        monkeypatch.setattr("aiplat.core.refs.recorded_digests", lambda ws, of: {"#1 train": body["model_digest"]})
        with pytest.raises(UserError, match=r"os\.system"):
            load_model(ws, run)
        assert not mark.exists()
    finally:
        file.write_bytes(before)
        (file.parent / "MLmodel").write_text(described)


def test_an_altered_file_is_refused(trained) -> None:
    ws, run = trained
    file = model_file(ws, run)
    genuine = file.read_bytes()
    other = freeze(load_model(ws, run).set_params(logisticregression__C=0.5)).data
    try:
        for data in (other, genuine + b"\0", genuine[:-1], genuine[: len(genuine) // 2], b""):
            file.write_bytes(data)
            with pytest.raises(UserError, match="not the one that was trained"):
                load_model(ws, run)
        file.unlink()
        with pytest.raises(UserError, match="cannot be read"):
            load_model(ws, run)
        file.mkdir()
        with pytest.raises(UserError, match="cannot be read"):
            load_model(ws, run)
        file.rmdir()
    finally:
        file.write_bytes(genuine)
    assert load_model(ws, run) is not None


def test_tags_that_point_elsewhere_are_refused(trained) -> None:
    """A run's tags in MLflow can be edited by anybody; the ledger's digest is what counts."""
    ws, run = trained
    other = models.trained(ws, seed=3).run
    client = ws.client()
    try:
        for name in ("model_uri", "model_digest"):
            client.set_tag(run.id, f"aiplat.{name}", getattr(other, name))
        with pytest.raises(UserError, match="not the one that was trained"):
            load_model(ws, run.id)
        client.set_tag(run.id, "aiplat.model_uri", "models:/m-" + "0" * 32)
        with pytest.raises(UserError, match="cannot be read"):
            load_model(ws, run.id)
        client.set_tag(run.id, "aiplat.model_uri", "")
        with pytest.raises(UserError, match="has no model"):
            load_model(ws, run.id)
        client.set_tag(run.id, "aiplat.features", "{broken")
        assert find_run(ws, run.id).features == ()
    finally:
        for name in ("model_uri", "model_digest"):
            client.set_tag(run.id, f"aiplat.{name}", getattr(run, name))
        client.set_tag(run.id, "aiplat.features", json.dumps(list(run.features)))
    assert find_run(ws, run.id) == dataclasses.replace(run, duration=find_run(ws, run.id).duration)


def test_a_type_of_ones_own(ws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with the line of the settings that admits it; with that line it is saved and loaded."""
    (ws.root / "bank_parts.py").write_text(
        "from sklearn.preprocessing import StandardScaler\n\n\nclass Centred(StandardScaler):\n    '''Ours.'''\n"
    )
    monkeypatch.syspath_prepend(str(ws.root))
    from bank_parts import Centred

    part = Centred().fit([[1.0], [2.0]])
    with pytest.raises(UserError, match=r"bank_parts\.Centred") as refused:
        freeze(part)
    assert refused.value.todo.endswith("trusted_types = bank_parts.Centred")
    settings = ws.root / "settings.ini"
    settings.write_text(settings.read_text() + "\n[models]\ntrusted_types = bank_parts.Centred\n")
    from aiplat.core.workspace import workspace

    listed = workspace(ws.root).settings.trusted_types
    frozen = freeze(part, listed)
    assert thaw(frozen.data, listed).transform([[3.0]])[0, 0] == 3.0
    with pytest.raises(UserError, match=r"bank_parts\.Centred"):
        thaw(frozen.data)
    sys.modules.pop("bank_parts")
    (ws.root / "bank_parts.py").unlink()
    with pytest.raises(UserError, match="not installed here"):
        thaw(frozen.data, listed)


# --- there and back


def table() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=ROWS), "b": rng.integers(0, 9, ROWS).astype(float)})
    frame["c"], frame["d"] = rng.choice(["x", "y", "z"], ROWS), rng.choice(["u", "v", None], ROWS)
    frame["e"] = pd.Categorical(rng.choice(["k", "l"], ROWS))
    frame["f"] = rng.choice([True, False], ROWS)
    frame.loc[3, "a"] = np.nan
    return frame, (frame["b"] + rng.normal(size=ROWS) > 4).to_numpy().astype(int), frame["b"] + rng.normal(size=ROWS)


def preparations() -> dict[str, Any]:
    from sklearn.compose import make_column_selector
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import (
        FunctionTransformer,
        KBinsDiscretizer,
        MinMaxScaler,
        OneHotEncoder,
        OrdinalEncoder,
        PolynomialFeatures,
        PowerTransformer,
        QuantileTransformer,
        RobustScaler,
        SplineTransformer,
        StandardScaler,
        TargetEncoder,
    )  # fmt: skip

    fill, onehot = SimpleImputer(), OneHotEncoder(handle_unknown="ignore")
    ordinal = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    )
    choose = (make_column_selector(dtype_include=np.number), make_column_selector(dtype_exclude=np.number))
    return {
        "scaled": ((fill, StandardScaler()), onehot, None),
        "robust, ordinal": ((SimpleImputer(strategy="median", add_indicator=True), RobustScaler()), ordinal, None),
        "quantiles, target": ((fill, QuantileTransformer(n_quantiles=50)), TargetEncoder(), None),
        "neighbours, power": ((KNNImputer(), PowerTransformer()), onehot, None),
        "iterative, polynomial": ((IterativeImputer(), MinMaxScaler(), PolynomialFeatures()), onehot, None),
        "splines": ((fill, SplineTransformer()), onehot, None),
        "bins": ((fill, KBinsDiscretizer(quantile_method="averaged_inverted_cdf")), onehot, None),
        "ufuncs": (
            (fill, FunctionTransformer(np.abs), FunctionTransformer(np.log1p, inverse_func=np.expm1)),
            onehot,
            None,
        ),
        "indicator": (
            (make_union(fill, MissingIndicator(features="all")),),
            OneHotEncoder(min_frequency=2, drop="if_binary"),
            None,
        ),
        "selected by type": ((fill, StandardScaler()), onehot, choose),
    }


def estimators() -> dict[str, Any]:
    from sklearn import (
        calibration,
        ensemble,
        linear_model,
        model_selection,
        naive_bayes,
        neighbors,
        neural_network,
        svm,
        tree,
    )
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
    from sklearn.pipeline import make_pipeline

    logistic = linear_model.LogisticRegression()
    forest = ensemble.RandomForestClassifier(5, random_state=0)
    pair = [("a", logistic), ("b", naive_bayes.GaussianNB())]
    found = {
        "logistic": logistic,
        "ridge": linear_model.RidgeClassifier(),
        "sgd": linear_model.SGDClassifier(loss="log_loss"),
        "tree": tree.DecisionTreeClassifier(),
        "forest": ensemble.RandomForestClassifier(5, random_state=np.random.RandomState(0)),
        "extra trees": ensemble.ExtraTreesClassifier(5),
        "gradient boosting": ensemble.GradientBoostingClassifier(n_estimators=3),
        "exponential boosting": ensemble.GradientBoostingClassifier(n_estimators=3, loss="exponential"),
        "histogram boosting": ensemble.HistGradientBoostingClassifier(max_iter=3),
        "ada": ensemble.AdaBoostClassifier(n_estimators=3),
        "bagging": ensemble.BaggingClassifier(n_estimators=3),
        "neighbours": neighbors.KNeighborsClassifier(),
        "ball tree": neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
        "svm": svm.SVC(),
        "linear svm": svm.LinearSVC(),
        "bayes": naive_bayes.GaussianNB(),
        "network": neural_network.MLPClassifier(max_iter=5),
        "sgd network": neural_network.MLPClassifier(max_iter=5, solver="sgd", early_stopping=True),
        "calibrated": calibration.CalibratedClassifierCV(svm.LinearSVC()),
        "calibrated isotonic": calibration.CalibratedClassifierCV(forest, method="isotonic"),
        "voting": ensemble.VotingClassifier(pair, voting="soft"),
        "stacking": ensemble.StackingClassifier(pair),
        "grid search": model_selection.GridSearchCV(
            logistic, {"C": [0.1, 1.0]}, scoring="roc_auc", cv=model_selection.KFold(3)
        ),
        "random search": model_selection.RandomizedSearchCV(logistic, {"C": [0.1, 1.0]}, n_iter=2, cv=2),
        "threshold": model_selection.TunedThresholdClassifierCV(logistic),
        "selected": make_pipeline(SelectKBest(f_classif, k=3), logistic),
        "selected by information": make_pipeline(SelectKBest(mutual_info_classif, k=3), logistic),
        "components": make_pipeline(PCA(2), logistic),
    }
    import importlib.util

    if importlib.util.find_spec("lightgbm"):
        from lightgbm import LGBMClassifier

        found["lightgbm"] = LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1)
    if importlib.util.find_spec("xgboost"):
        from xgboost import XGBClassifier

        found["xgboost"] = XGBClassifier(n_estimators=3, n_jobs=1)
    return found


def regressors() -> dict[str, Any]:
    from sklearn import compose, ensemble, gaussian_process, linear_model, neighbors, svm
    from sklearn.gaussian_process import kernels

    sums = 1.0 * kernels.RBF() + kernels.WhiteKernel() + kernels.Matern() * kernels.RationalQuadratic()
    found = {
        "ridge": linear_model.Ridge(),
        "lasso": linear_model.LassoCV(cv=2),
        "tweedie": linear_model.TweedieRegressor(power=1.5),
        "poisson": linear_model.PoissonRegressor(),
        "forest": ensemble.RandomForestRegressor(5, criterion="poisson"),
        "neighbours": neighbors.KNeighborsRegressor(),
        "svm": svm.SVR(),
        "process": gaussian_process.GaussianProcessRegressor(sums, optimizer=None),
        "logarithm of the target": compose.TransformedTargetRegressor(
            linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1
        ),
    }
    for loss in ("squared_error", "absolute_error", "quantile", "poisson", "gamma"):
        more = {"quantile": 0.5} if loss == "quantile" else {}
        found[f"histogram {loss}"] = ensemble.HistGradientBoostingRegressor(max_iter=3, loss=loss, **more)
    for loss in ("squared_error", "absolute_error", "huber", "quantile"):
        found[f"gradient {loss}"] = ensemble.GradientBoostingRegressor(n_estimators=3, loss=loss)
    return found


def there_and_back(model: Any, X: Any, y: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
        again = thaw(freeze(model).data)
        assert np.array_equal(np.asarray(model.predict(X)), np.asarray(again.predict(X)))
        if hasattr(model, "predict_proba"):
            assert np.array_equal(model.predict_proba(X), again.predict_proba(X))


def prepared(numbers: Any, texts: Any, choose: Any, last: Any) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline

    where = choose or (pd.Index(["a", "b"]), ["c", "d", "e", "f"])
    encode = make_column_transformer((make_pipeline(*numbers), where[0]), (texts, where[1]), sparse_threshold=0)
    return make_pipeline(encode, last)


@pytest.mark.parametrize("name", sorted(preparations()))
def test_preparations_there_and_back(name: str) -> None:
    X, y, _ = table()
    there_and_back(prepared(*preparations()[name], estimators()["logistic"]), X, np.where(y == 1, "yes", "no"))


@pytest.mark.parametrize("name", sorted(estimators()))
def test_classifiers_there_and_back(name: str) -> None:
    X, y, _ = table()
    there_and_back(prepared(*preparations()["scaled"], estimators()[name]), X, y)


@pytest.mark.parametrize("name", sorted(regressors()))
def test_regressors_there_and_back(name: str) -> None:
    X, _, y = table()
    there_and_back(prepared(*preparations()["scaled"], regressors()[name]), X, y.abs() + 0.1)


def test_texts_there_and_back() -> None:
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline, make_union

    rng = np.random.default_rng(0)
    texts = pd.Series([" ".join(rng.choice(["free", "win", "hello", "meet"], 5)) for _ in range(ROWS)])
    y = texts.str.contains("win free").astype(int)
    both = make_union(TfidfVectorizer(analyzer="char", ngram_range=(1, 2)), CountVectorizer(binary=True))
    for vectorizer in (
        CountVectorizer(),
        TfidfVectorizer(stop_words="english"),
        HashingVectorizer(n_features=64, alternate_sign=False),
        both,
    ):
        there_and_back(make_pipeline(vectorizer, MultinomialNB()), texts, y)


# --- finding


def test_prefixes(ws) -> None:
    client, experiment = ws.client(), ws.experiment_id()
    ids = [
        client.create_run(experiment, tags={"aiplat.kind": "train"}, run_name="<b>'x\"").info.run_id for _ in range(17)
    ]
    trial = client.create_run(experiment, tags={"mlflow.parentRunId": ids[0]}).info.run_id
    starts = [run[0] for run in ids]
    crowded = next(start for start in starts if starts.count(start) > 1)  # 17 ids, 16 digits
    with pytest.raises(UserError, match=f"begins the ids of {starts.count(crowded)} runs"):
        find_run(ws, crowded)
    for run in ids:
        assert find_run(ws, run[:12]).id == run == find_run(ws, f" {run.upper()} ").id
    assert find_run(ws, trial[:12]).kind == "trial" and trial not in [run.id for run in list_runs(ws, limit=100)]
    assert len(list_runs(ws, limit=100)) == 17 and len(list_runs(ws, limit=3)) == 3
    with pytest.raises(UserError, match="no finished run"):  # none of these has a model
        find_run(ws, "last")
    client.create_registered_model(ids[0][:5])
    with pytest.raises(UserError, match="name of a model and begins the id"):
        find_run(ws, ids[0][:5])
    with pytest.raises(UserError, match="has no versions"):
        find_model(ws, f"models:/{ids[0][:5]}")


@pytest.mark.parametrize(
    "ref",
    [
        "",
        " ",
        "'",
        '"',
        "'\"",
        "a'b/1",
        "x\x00y",
        "models:/",
        "models:/m-x",
        "a@b@c",
        "../../etc/passwd",
        "🙂",
        "last/1",
        "%",
        "_",
        "0" * 32,
        "f" * 31,
    ],
)
def test_odd_references_end_in_two_lines(trained, ref: str) -> None:
    ws, _ = trained
    for find in (find_run, find_model, load_model):
        with pytest.raises(UserError) as said:
            find(ws, ref)
        assert said.value.what and said.value.todo


# --- several processes, and a server

LOGS = """
import sys
from tests import models
ws = models.governed(sys.argv[1])
print(models.trained(ws, seed=int(sys.argv[2])).run.id)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_six_processes_in_a_brand_new_workspace(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    processes = [
        warm.begin(["-c", LOGS, str(tmp_path / "new"), str(seed)], root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for seed in range(6)
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, "\n".join(error for _, error in said)
    ws = models.governed(tmp_path / "new")
    runs = list_runs(ws)
    assert sorted(run.id for run in runs) == sorted(out.split()[-1] for out, _ in said)
    assert {run.status for run in runs} == {"FINISHED"} and ledger.breaks(ws) == [] and ledger.unfinished(ws) == []
    assert len({run.model_digest for run in runs}) == 6 and all(load_model(ws, run) is not None for run in runs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_through_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiplat.core import workspace
    from tests.servers import mlflow_server

    with mlflow_server(f"sqlite:///{tmp_path}/server.db", tmp_path / "artifacts") as uri:
        (tmp_path / "home").mkdir()
        ws = workspace.create(tmp_path / "home", user="ana", tracking=uri)
        run = models.trained(ws).run
        assert find_run(ws, "last") == find_run(ws, run.id[:9]) and [found.id for found in list_runs(ws)] == [run.id]
        client = ws.client()
        client.create_registered_model("credit")
        tags, model_id = {"aiplat.model_digest": run.model_digest}, run.model_uri.removeprefix("models:/")
        client.create_model_version("credit", run.model_uri, run.id, tags=tags, model_id=model_id)
        client.set_registered_model_alias("credit", "production", "1")
        version = find_model(ws, "credit@production")
        assert version.run_id == run.id and checked_bytes(ws, version) == model_bytes(ws, run.model_uri)
        assert load_model(ws, "credit/1") is not None
        with pytest.raises(UserError, match="no version '2'"):
            find_model(ws, "credit/2")
        with pytest.raises(UserError, match="there is no registered model"):
            find_model(ws, "credits")
        with pytest.raises(UserError, match="cannot be read"):
            model_bytes(ws, "models:/m-" + "0" * 32)
