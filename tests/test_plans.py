"""Pipeline files: whatever stands in one, the answer is a plan or two lines; templates compute little and reach nothing."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from aiplat.core.errors import Refused, UsageError, UserError
from aiplat.core.show import to_html, to_text
from aiplat.core.workspace import Workspace, create
from aiplat.frontends import cli
from aiplat.operations.kinds import SIMPLE, plain
from aiplat.operations.pipelines import plans
from aiplat.operations.pipelines.asking import outputs_of
from aiplat.operations.pipelines.checks import check, examined, problems, sound
from aiplat.operations.pipelines.draft import init, key, toml
from aiplat.operations.pipelines.expressions import compiled, condition
from aiplat.operations.pipelines.files import find, reading, single
from aiplat.operations.pipelines.graphs import Node, drawn, graph, nodes, picture, told, tree
from aiplat.operations.pipelines.keys import Scanner, read_toml
from aiplat.operations.pipelines.layouts import layout
from aiplat.operations.pipelines.matrices import combinations, instances, key_of, parse_matrix, spelled, with_matrix
from aiplat.operations.pipelines.plans import Moment, Pipeline, Step, in_order
from aiplat.operations.pipelines.sandbox import LIMIT, bounded
from aiplat.operations.pipelines.tables import StepRow
from aiplat.operations.pipelines.templates import bound, context, holds, rendered, wanted

LATELY = Moment.at(datetime.fromisoformat("2026-01-31T02:00+01:00"))
many = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
some = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def write(path: Path, parameters: str, *cells: str, kernel: str = "python3") -> Path:
    """A notebook with a parameters cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    spec = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)], metadata=spec), path)
    return path


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace with three notebooks."""
    found = create(tmp_path)
    write(
        tmp_path / "notebooks/ingest.ipynb", "day: str\nrows = 100", "import aiplat\naiplat.output('data', 'lake.csv')"
    )
    train = "from datetime import date\nfrom typing import Literal\ndata: str\nlr: float = 0.1\nmode: Literal['fast', 'full'] = 'fast'\nsince: date = date(2026, 1, 1)"
    write(tmp_path / "notebooks/train.ipynb", train, "from aiplat import output\noutput('model', data)")
    write(tmp_path / "notebooks/report.ipynb", "models: list[str] = []")
    (tmp_path / "pipelines").mkdir()
    return found


GOOD = """
description = "nightly"
[parameters]
day = "{{ date - days(1) }}"
rates = [0.1, 0.2]
[steps.ingest]
notebook = "../notebooks/ingest.ipynb"
parameters = { day = "{{ parameters.day }}" }
[steps.train]
notebook = "../notebooks/train.ipynb"
matrix = { lr = "{{ parameters.rates }}" }
parameters = { lr = "{{ matrix.lr }}", data = "{{ steps.ingest.data }}", since = "{{ logical_date }}" }
[steps.report]
notebook = "../notebooks/report.ipynb"
parameters = { models = "{{ steps.train.model }}" }
"""


def put(ws: Workspace, text: str, name: str = "nightly") -> Path:
    """A pipeline file."""
    file = ws.root / "pipelines" / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


# ---------------------------------------------------------------------------------------------- whatever stands in a file


def survives(text: str) -> None:
    """Everything that reads a plan takes this text: problems with lines, or a plan that can be drawn."""
    pipeline, wrong = reading(text, Path("somewhere/nightly.toml"))
    found = [*wrong, *problems(pipeline)]
    lines = text.replace("\r\n", "\n").count("\n") + 1
    for each in found:
        assert 0 <= each.line <= lines and each.what and each.todo and "\n" not in each.what + each.todo
    blocks = drawn(pipeline)
    assert to_text(blocks) is not None and to_html(blocks)
    for step in pipeline.steps.values():
        for call in (lambda s=step: instances(pipeline, s, context(LATELY)), lambda s=step: wanted(s, context(LATELY))):
            try:
                call()
            except UserError:
                continue


@many
@given(st.text(max_size=300))
@example("[steps.a]\nnotebook = ''\n")
@example("a = " + "[" * 5000)
@example("steps = 3")
@example("[[steps]]\na = 1")
@example("steps = [{a = 1}]")
@example("[steps.a]\nnotebook = 'a\\u0000b.ipynb'")
@example('[steps.a]\nnotebook = "\\u0000"')
@example('[steps.a]\nnotebook = "~nobody-here/x.ipynb"')
@example("\ufeff[steps]")
@example("[steps.a]\r\nnotebook = 3\r\n")
@example("parameters.a = 07:32:00")
@example("parameters.a = { default = 1, type = '" + "(" * 500 + "' }")
def test_any_text_is_a_plan_or_problems(text: str) -> None:
    survives(text)


words = st.sampled_from(
    [
        "steps",
        "parameters",
        "notebook",
        "needs",
        "matrix",
        "when",
        "retries",
        "backoff",
        "retry_on",
        "timeout",
        "cell_timeout",
        "resources",
        "cache",
        "inputs",
        "cpus",
        "memory",
        "gpus",
        "custom",
        "description",
        "concurrency",
        "late",
        "type",
        "default",
        "choices",
        "help",
        "a",
        "b",
        "train",
        "x-y",
        "é",
    ]
)
leaves = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.text(max_size=20),
    st.sampled_from(
        [
            "{{ steps.a.x }}",
            "{{ steps.b.state }}",
            "{{ matrix.a }}",
            "{{ parameters.b }}",
            "{{",
            "{{ date }}",
            "2h",
            "2GB",
            "a",
            "b",
            "train",
        ]
    ),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)
steps = st.dictionaries(words, st.dictionaries(words, values, max_size=5) | values, max_size=4)
trees = st.dictionaries(words, values, max_size=4) | st.fixed_dictionaries(
    {"steps": steps}, optional={"parameters": values, "timeout": values, "concurrency": values}
)


@many
@given(trees)
def test_any_values_are_a_plan_or_problems(tree: dict[str, Any]) -> None:
    text = "\n".join(f"{key(name)} = {toml(value)}" for name, value in tree.items())
    assert read_toml(text)[2] == []
    survives(text)


def same(a: Any, b: Any) -> bool:
    """Equal, where nan equals nan."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@many
@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_what_is_written_is_read_back(tree: dict[str, Any]) -> None:
    assert same(tomllib.loads("\n".join(f"{key(name)} = {toml(value)}" for name, value in tree.items())), tree)


@many
@given(st.data())
def test_the_line_of_every_key_is_known(data: st.DataObject) -> None:
    """Documents are built line by line, so the right line of each key is known."""
    lines: list[str] = []
    where: dict[str, int] = {}
    filler = st.sampled_from(["", "# [steps.no]", "   ", "# key = 'value'"])
    for table in data.draw(st.lists(st.sampled_from(["a", "b c", "ü.x", "d"]), unique=True, max_size=4)):
        lines += data.draw(st.lists(filler, max_size=2))
        lines.append(f"[ {key(table)} ]  # ]")
        where[table] = len(lines)
        for name in data.draw(st.lists(st.sampled_from(["k", "x y", "=", "#", "'"]), unique=True, max_size=4)):
            value = data.draw(values)
            text = toml(value)
            form = data.draw(st.sampled_from(["plain", "lines", "long", "raw"]))
            where[f"{table}.{name}"] = len(lines) + 1
            if form == "lines":
                text = f"[ # a ] in a comment\n  {text},\n  '#', '''\n]'''\n]"
            elif form == "long":
                text = '"""\n[no]\nno = 1 \\"""\n"two quotes"""""'
            elif form == "raw":
                text = "{ inner = '[', 'o.p' = \"\\\"]\" }"
                where[f"{table}.{name}.inner"] = where[f"{table}.{name}"]
            lines += f"{key(name)} = {text}".split("\n")
    document = "\n".join(lines)
    tomllib.loads(document)
    found = Scanner(document).scan()
    for name, line in where.items():
        assert found[name] == line, (name, document)


# ------------------------------------------------------------------------------------------------------------- templates

HOSTILE = [
    "''.__class__.__mro__[1].__subclasses__()", "().__class__", "days.__globals__", "date.__init__", "logical_date.__reduce__()", "logical_date.__class__.today()",
    "'a' * 10**9", "10**10**10", "range(10**9)", "[0] * 10**8", "((('a'*99999)*9)*9)", "'%0999999999d' % 1", "'{:999999999}'.format(1)", "1.5 | round(10**9)",
    "logical_date.strftime('%0999999999Y')", "'x' | center(10**9)", "'x' | replace('', 'y' * 90000) | replace('y', 'z' * 90000)", "date.replace", "cycler('a')", "lipsum(1000)",
    "namespace()", "self", "self._TemplateReference__context", "config", "request", "open('/etc/passwd')", "''.join", "os.environ", "import('os')", "joiner.__init__",
    "[1] | map(attribute='__class__') | list", "['', 'a'] | sort(attribute='__class__.__base__')", "steps | attr('__class__')", "{{ 1 }}", "%}{% for x in range(9) %}", "a }} {{ b",
    "(" * 400 + ")" * 400, "-" * 900 + "1", "[" * 300 + "]" * 300, "9" * 1500, "1 if", "x = 3", "lambda: 1", "*parameters", "days(*[1])", "days(10**30)", "1e999 | int", "'\\ud800'",
    "parameters.get('a').b.c.d", "steps['a']['b']", "matrix[0]", "[1, 2][5]", "date[10**30]", "date[::0]", "'a' < 1", "days(1) + 1", "not", "true.real", "None.x", "1 // 0", "0 ** -1",
    "('9' * 99999) | int", "loop.index", "caller()", "varargs", "undefined", "date is defined(", "missing is defined", "parameters", "[parameters, steps] * 99", "''|xmlattr", "1|filesizeformat",
]  # fmt: skip


def outcome(text: str, names: dict[str, Any]) -> Any:
    """The value of a template, or its error in two lines; nothing else may come out."""
    try:
        value = rendered(text, names)
    except UserError as error:
        assert error.what and error.todo
        return error
    bounded(value)
    plain(value)
    json.dumps(plain(value))
    return value


@pytest.mark.parametrize("expression", HOSTILE)
def test_hostile_templates_come_to_nothing(expression: str) -> None:
    found = outcome(f"{{{{ {expression} }}}}", context(LATELY, {"a": 1}))
    harmless = {"parameters", "[parameters, steps] * 99", "1.5 | round(10**9)", "missing is defined"}
    assert isinstance(found, UserError) or expression in harmless, found
    try:
        assert holds(expression, context(LATELY)) in (True, False)
    except UserError:
        return


atoms = st.sampled_from(
    [
        "parameters",
        "steps.a",
        "steps.a.x",
        "date",
        "logical_date",
        "days(2)",
        "'a'",
        "[1, 2]",
        "3",
        "2.5",
        "none",
        "{'k': 1}",
        "range(4)",
        "interval.start",
    ]
)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(["+", "-", "*", "**", "/", "//", "%", "~", "and", "or", "==", "<", "in", "not in"]),
            inner,
        )
        .map(" ".join)
        .map("({})".format),
        st.tuples(
            inner,
            st.sampled_from(
                [
                    "list",
                    "join",
                    "sum",
                    "length",
                    "first",
                    "last",
                    "sort",
                    "reverse",
                    "string",
                    "json",
                    "int",
                    "float",
                    "round",
                    "upper",
                    "default(1)",
                    "unique",
                    "min",
                    "max",
                    "date",
                    "replace('a','b')",
                ]
            ),
        )
        .map(" | ".join)
        .map("({})".format),
        st.tuples(
            inner,
            st.sampled_from(
                [
                    ".x",
                    "[0]",
                    "['x']",
                    ".year",
                    ".upper()",
                    ".items()",
                    ".__class__",
                    "[1:]",
                    ".strftime('%Y')",
                    ".date()",
                    ".total_seconds()",
                ]
            ),
        ).map("".join),
        st.tuples(inner, inner, inner).map(lambda parts: "({} if {} else {})".format(*parts)),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions | st.text(max_size=40))
def test_any_expression_is_a_small_value_or_two_lines(expression: str) -> None:
    names = context(LATELY, {"a": "b" * 1000}, steps={"a": {"state": "done", "x": [1, "y", {"z": None}]}})
    outcome(f"{{{{ {expression} }}}}", names)
    outcome(f"a {{{{ {expression} }}}} b {{{{ date }}}}", names)
    try:
        assert holds(expression, names) in (True, False)
    except UserError:
        return


def test_templates_keep_types_and_say_what_is_there() -> None:
    names = context(LATELY, {"n": 3}, steps={"train": {"state": "done", "model": "m", "items": [1]}})
    assert rendered({"a": ["{{ parameters.n }}", "x{{ parameters.n }}"], "b": "{{ steps.train['items'] }}"}, names) == {
        "a": [3, "x3"],
        "b": [1],
    }
    assert rendered("{{ steps.train.items }}", names) == [1]  # an output, not the method of a table
    assert (
        rendered("{{ date - days(31) }}", names) == "2025-12-31"
        and rendered("plain {text} }}", names) == "plain {text} }}"
    )
    assert rendered("{{ logical_date - hours(3) }}", names) == datetime.fromisoformat("2026-01-30T23:00+01:00")
    assert rendered("{{ steps.train.modle | default('none') }}", names) == "none"
    with pytest.raises(UserError, match="no 'modle'\ndid you mean 'model'"):
        rendered("{{ steps.train.modle }}", names)
    with pytest.raises(UserError, match="did you mean 'parameters'"):
        compiled("{{ paramters.n }}")
    assert len(rendered("{{ 'a' * 99999 }}", names)) < LIMIT


def test_conditions_and_what_a_step_waits_for() -> None:
    states = {"a": {"state": "failed"}, "b": {"state": "done", "passed": True, "score": 0.7}}
    names = context(LATELY, steps=states)
    need = {"notebook": Path("n.ipynb"), "needs": ("a", "b")}
    assert wanted(Step("x", **need), names) == (False, "a failed")
    assert not wanted(Step("x", **need, when="steps.b.passed"), names)[0]  # a condition is a further demand
    assert wanted(Step("x", **need, when="steps.a.state == 'failed' and steps.b.passed"), names)[0]
    assert not wanted(Step("x", **need, when="steps.a.state == 'failed' and steps.a.score > 1"), names)[0]
    assert wanted(Step("x", Path("n.ipynb"), when="{{ 1 == 1 }}"), names)[0]
    with pytest.raises(UserError):
        condition("{% if x %}")


# --------------------------------------------------------------------------------------------------- matrices and their keys


def identity(value: Any) -> str:
    """What makes two values of a matrix the same: type and content."""
    return (
        f"{type(value).__name__}:{json.dumps(plain(value), sort_keys=True)}"
        if not isinstance(value, float)
        else f"float:{value!r}"
    )


flat = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=60), st.dates()
)
members = st.one_of(
    flat,
    st.lists(flat, max_size=2),
    st.sampled_from(
        [
            "1",
            "1.0",
            "true",
            "none",
            "",
            "a,b",
            "a=b",
            "[1]",
            "'a'",
            "%27",
            "x" * 80,
            "x" * 81,
            "2026-01-31",
            "a]",
            "🙂",
        ]
    ),
)


@many
@given(st.lists(members, min_size=2, max_size=8))
def test_keys_tell_values_apart(found: list[Any]) -> None:
    lists = [
        value
        for value in found
        if not (isinstance(value, list) and any(isinstance(each, float | date) for each in value))
    ]
    different = {identity(value): value for value in lists}
    keys = {key_of("train", {"a": value}) for value in different.values()}
    assert len(keys) == len(different)
    for name in keys:
        assert "\n" not in name and len(name) < 80 and name.startswith("train[a=") and name.isprintable()


@many
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.integers(0, 9) | st.sampled_from(["x", "y", "1"]), min_size=1, max_size=4, unique_by=repr),
        max_size=3,
    )
)
def test_every_combination_has_its_key(matrix: dict[str, list[Any]]) -> None:
    found = combinations("train", matrix)
    assert len(found) == math.prod(len(each) for each in matrix.values())
    assert list(found) == [key_of("train", each) for each in found.values()]


@many
@given(
    st.lists(st.text(max_size=30), max_size=3)
    | st.lists(st.from_regex(r"[a-c]=[-0-9.,\[\]\"a-z]{0,12}", fullmatch=True), max_size=3)
)
@example(["a=1..5..NaN"])
@example(["a=1e999999..2"])
@example(["a=0..1e9"])
@example(["a=[1,"])
@example(["a=0001-01-01..9999-12-31"])
def test_any_matrix_on_a_command_line(typed: list[str]) -> None:
    for kinds in ({}, {"a": SIMPLE["int"], "b": SIMPLE["list"], "c": SIMPLE["date"]}):
        try:
            found = parse_matrix(typed, kinds)
        except UsageError:
            continue
        assert all(0 < len(each) <= 10_000 for each in found.values())


@many
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 7))
def test_ranges_have_both_ends(first: int, last: int, by: int) -> None:
    assert parse_matrix([f"a={first}..{last}"])["a"] == list(
        range(first, last + 1) if last >= first else range(first, last - 1, -1)
    )
    if last >= first:
        assert parse_matrix([f"a={first}..{last}..{by}"])["a"] == list(range(first, last + 1, by))


def test_a_matrix_finds_its_notebook(ws: Workspace) -> None:
    put(ws, GOOD)
    pipeline = with_matrix(find("nightly", ws), ["rows=1..3", "train.mode=fast,full"])
    names = context(LATELY, bound(pipeline, {}, context(LATELY)), steps={"ingest": {"state": "done", "data": "x"}})
    assert [dict(each.values)["rows"] for each in instances(pipeline, "ingest", names)] == [1, 2, 3]
    assert [each.key for each in instances(pipeline, "train", names)][:2] == [
        "train[lr=0.1,mode=fast]",
        "train[lr=0.1,mode=full]",
    ]
    with pytest.raises(UsageError, match="wants int each"):
        with_matrix(find("nightly", ws), ["rows=a,b"])
    for word in ("colour=1", "train.rows=1"):
        with pytest.raises(UsageError, match=r"no parameter|no notebook"):
            with_matrix(find("nightly", ws), [word])
    alone = with_matrix(single(ws.root / "notebooks/train.ipynb"), ["lr=0.1,0.2"])
    found = instances(alone, "train", context(LATELY, bound(alone, {"data": "x"})))
    assert [(each.key, dict(each.values)) for each in found] == [
        (f"train[lr={lr}]", {"data": "x", "lr": lr}) for lr in (0.1, 0.2)
    ]


# ------------------------------------------------------------------------------------------------------------- what a check finds


def test_a_right_file_is_right(ws: Workspace) -> None:
    put(ws, GOOD)
    found = check("nightly", home=ws.root)
    assert found.ok and found.steps == ["ingest", "train", "report"]
    pipeline = find("nightly", ws)
    values = bound(pipeline, {}, context(LATELY))
    assert values == {"day": "2026-01-30", "rates": [0.1, 0.2]}
    names = context(LATELY, values, steps={"ingest": {"state": "done", "data": "lake.csv"}})
    found_instances = instances(pipeline, "train", names)
    assert dict(found_instances[0].values) == {
        "data": "lake.csv",
        "lr": 0.1,
        "since": date(2026, 1, 31),
    }
    assert bound(pipeline, {"rates": "1,2"}, names)["rates"] == [1.0, 2.0]
    assert find(ws.root / "pipelines/nightly.toml", ws).name == "nightly" == find("nightly.toml", ws).name


WRONG = [
    ("concurrency = 2", "concurency = 2", "no key 'concurency'", "did you mean 'concurrency'"),
    ("", 'late = "soon"', "late wants a time", "90s"),
    ("", 'timeout = "-5m"', "timeout wants a time", "90s"),
    ("{{ date - days(1) }}", "{{ dat - days(1) }}", "no name 'dat'", "did you mean 'date'"),
    ("{{ date - days(1) }}", "{{ parameters.rates }}", "does not stand above", "write that one first"),
    ("[steps.ingest]\n", "[steps.ingest]\nretrys = 2\n", "no key 'retrys'", "did you mean 'retries'"),
    ("[steps.ingest]\n", "[steps.ingest]\nretries = 2.5\n", "retries wants a whole number", "without quotes"),
    ("[steps.ingest]\n", "[steps.ingest]\nresources = { memory = 'lots' }\n", "memory wants a size", "2GB"),
    ("[steps.ingest]\n", "[steps.ingest]\nresources.cpu = 2\n", "no key 'cpu'", "did you mean 'cpus'"),
    ("[steps.ingest]\n", "[steps.ingest]\nretry_on = ['eror']\n", "no kind of failure 'eror'", "did you mean 'error'"),
    ("[steps.ingest]\n", "[steps.ingest]\nneeds = 'train'\n", "needs wants a list", '["train"]'),
    ("[steps.ingest]\n", "[steps.ingest]\nneeds = ['trian']\n", "'trian', which is no step", "did you mean 'train'"),
    ("[steps.ingest]\n", "[steps.ingest]\nneeds = ['report']\n", "ingest needs report needs train needs ingest", "do without"),
    ("[steps.ingest]\n", "[steps.ingest]\nneeds = ['ingest']\n", "needs itself", "earlier"),
    ("[steps.ingest]\n", "[steps.ingest]\nwhen = 'steps.report.state =='\n", "cannot be read", "expression"),
    ("[steps.ingest]\n", "[steps.ingest]\nwhen = 'matrix.lr > 1'\n", "'matrix' where there is none", "whole step"),
    ("[steps.ingest]\n", "[steps.ingest]\ncache = 'often'\n", "cache wants true, false or a time", "7d"),
    ("[steps.ingest]\n", "[steps.ingest]\ntimeout = '{{ parameters.day }}'\n", "timeout", "90s"),
    ("ingest.ipynb", "ingset.ipynb", "there is no notebook", "did you mean 'ingest.ipynb'"),
    ("ingest.ipynb", "broken.ipynb", "is not a notebook", "git"),
    ("ingest.ipynb", "julia.ipynb", "kernel 'julia-1.9'", "install"),
    ("ingest.ipynb", "bare.ipynb", "no cell tagged 'parameters'", "tag it"),
    ("day = \"{{ parameters.day }}\"", "dya = 1", "no parameter 'dya'", "did you mean 'day'"),
    ("day = \"{{ parameters.day }}\"", "rows = 1", "'day' (str) of ingest.ipynb has no default", "write parameters"),
    ("day = \"{{ parameters.day }}\"", "day = 3", "'day' wants a str, not 3", "for example"),
    ("day = \"{{ parameters.day }}\"", "day = '{{ parameters.dya }}'", "'dya', which is not declared", "did you mean 'day'"),
    ("day = \"{{ parameters.day }}\"", "day = 'd', rows = '{{ parameters.day }}'", "'rows' wants an int", "for example"),
    ("day = \"{{ parameters.day }}\"", "day = 'xoxb-0123456789-abc'", "Slack token in plain text", "secret:DAY"),
    ("day = \"{{ parameters.day }}\"", "day = 'postgresql://me:hunter2@db/x'", "password", "leave the password out|take it out"),
    ("day = \"{{ parameters.day }}\"", "day = '{{ steps.train.model }}'", "circle", "do without"),
    ("{{ steps.ingest.data }}", "{{ steps.ingest.dta }}", "'dta' of 'ingest', which ingest.ipynb does not make", "did you mean 'data'"),
    ("{{ steps.ingest.data }}", "{{ steps.ingets.data }}", "'ingets', which is no step", "did you mean 'ingest'"),
    ("{{ steps.ingest.data }}", "{{ interval.begin }}", "interval.begin", "start"),
    ("{{ matrix.lr }}", "{{ matrix.rl }}", "'rl' of its matrix", "there is lr"),
    ("lr = \"{{ parameters.rates }}\"", "lr = []", "empty list", "leave it out"),
    ("lr = \"{{ parameters.rates }}\"", "lr = 0.1", "wants a list", "[0.1]"),
    ("lr = \"{{ parameters.rates }}\"", "lr = [0.1, 0.1]", "twice", "once"),
    ("lr = \"{{ parameters.rates }}\"", "lr = [0.1, 'fast']", "'lr' wants a float, not 'fast'", "for example"),
    ("lr = \"{{ parameters.rates }}\"", "lr = '{{ parameters.day }}'", "not a list", "write lr"),
    ("since = \"{{ logical_date }}\"", "mode = 'ful'", "one of 'fast', 'full'", "did you mean 'full'"),
    ("since = \"{{ logical_date }}\"", "since = 2026-13-01", "not TOML", "quotes"),
    ("rates = [0.1, 0.2]", "rates = { type = 'intt' }", "no type 'intt'", "did you mean 'int'"),
    ("rates = [0.1, 0.2]", "rates = { type = 'int', default = 'x' }", "wants int, not 'x'", "fits"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "what", "todo"), WRONG, ids=[f"{i}-{each[2][:24]}" for i, each in enumerate(WRONG)]
)
def test_each_mistake_is_found_with_its_line(ws: Workspace, old: str, new: str, what: str, todo: str) -> None:
    (ws.root / "notebooks/broken.ipynb").write_text('{"cells": [')
    write(ws.root / "notebooks/julia.ipynb", "day = ''", kernel="julia-1.9")
    nbformat.write(new_notebook(cells=[new_code_cell("day = 1")]), ws.root / "notebooks/bare.ipynb")
    text = GOOD.replace("description", "concurrency = 2\ndescription", 1)
    assert old in text
    mistaken = text.replace(old, new, 1) if old else text.replace("\n", f"\n{new}\n", 1)
    assert examined(put(ws, text), ws)[1] == []
    found = examined(put(ws, mistaken), ws)[1]
    hits = [
        each
        for each in found
        if re.search(re.escape(what), each.what) and re.search(todo if "|" in todo else re.escape(todo), each.todo)
    ]
    assert hits, found
    lines = mistaken.splitlines()
    at = next(number for number, line in enumerate(lines, 1) if (new.splitlines()[-1] if new.strip() else "") in line)
    circular = "circle" in what or "needs report" in what
    assert circular or any(abs(each.line - at) <= 1 for each in hits), (at, hits)


def test_all_mistakes_are_told_at_once(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        GOOD.replace('day = "{{ parameters.day }}"', "dya = 1")
        .replace("matrix.lr", "matrix.rl")
        .replace("report.ipynb", "reprot.ipynb")
    )
    put(ws, text + "retrys = 1\n")
    monkeypatch.chdir(ws.root)
    assert cli.main(["pipeline", "check", "nightly"]) == 3
    said = capsys.readouterr()
    for piece in ("dya", "'day' (str)", "'rl'", "reprot.ipynb", "retrys"):
        assert piece in said.out
    assert said.err.splitlines() == ["✗ nightly.toml has 5 problems", "→ mend the lines above and check again"]
    assert cli.main(["pipeline", "check", "nightly", "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["result"]["problems"]) == 5
    put(ws, GOOD.replace("matrix.lr", "matrix.rl"), "typo")
    with pytest.raises(UserError, match=r"typo\.toml, line 12: .*'rl'"):
        sound("typo", ws)
    with pytest.raises(UserError, match=r"nightly\.toml, line 16: .*'retrys'") as stopped:
        find("nightly", ws)
    assert not isinstance(stopped.value, Refused)
    assert cli.main(["pipeline", "check", "nigthly"]) == 1
    assert "did you mean 'nightly'" in capsys.readouterr().err


def test_nothing_is_said_where_nothing_is_known(ws: Workspace) -> None:
    """Outputs by computed names, by helpers beside the notebook, and optional ones are no mistakes."""
    uses = GOOD.replace("steps.ingest.data", "steps.ingest.other")
    put(ws, uses)
    assert len(examined("nightly", ws)[1]) == 1
    put(ws, GOOD.replace("steps.ingest.data", "steps.ingest.other | default('x')"))
    assert examined("nightly", ws)[1] == []
    write(
        ws.root / "notebooks/ingest.ipynb",
        "day: str",
        "import aiplat\nfor name in ['other']:\n    aiplat.output(name, 1)",
    )
    put(ws, uses)
    assert examined("nightly", ws)[1] == []
    assert outputs_of(["import helper\nhelper.go()"], ws.root / "notebooks") == (frozenset(), True)
    (ws.root / "notebooks/helper.py").write_text("")
    assert outputs_of(["import helper\nhelper.go()"], ws.root / "notebooks") == (frozenset(), False)


@pytest.mark.parametrize("broken", [b"\xff\xfe", b"a = '\xc3'", b"\x00"])
def test_files_that_are_no_text(ws: Workspace, broken: bytes) -> None:
    (ws.root / "pipelines/x.toml").write_bytes(broken)
    with pytest.raises(UserError):
        find("x", ws)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "..",
        "../settings",
        "/",
        "~",
        "~no-such-person/x",
        "a\0b",
        "x.ipynb",
        "x.toml",
        "pipelines",
        "x" * 500,
        "*",
        "nightly/",
    ],
)
def test_names_that_mean_nothing(ws: Workspace, name: str) -> None:
    with pytest.raises(UserError):
        find(name, ws)


# ------------------------------------------------------------------------------------------------------------- order and pictures

graphs = st.integers(1, 14).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, max(n - 1, 0)), max_size=3), min_size=n, max_size=n).map(
        lambda needs: {f"s{i}": [f"s{each}" for each in row if each != i] for i, row in enumerate(needs)}
    )
)


@many
@given(graphs)
def test_an_order_or_its_circles(needs: dict[str, list[str]]) -> None:
    order, circles = in_order(needs)
    for place, name in enumerate(order):
        assert set(needs[name]) <= set(order[:place])
    assert bool(circles) == (len(order) < len(needs))
    for circle in circles:
        assert circle[0] == circle[-1] and len(circle) > 1
        assert all(b in needs[a] for a, b in pairwise(circle))


@many
@given(graphs)
def test_boxes_never_overlap_and_lines_go_down(needs: dict[str, list[str]]) -> None:
    order, _ = in_order(needs)
    found = layout({name: needs[name] for name in order} | {name: needs[name] for name in needs if name not in order})
    assert sorted(name for row in found.rows for name in row) == sorted(needs)
    for row in found.rows:
        assert all(found.x[b] - found.x[a] >= 0.999 for a, b in pairwise(row))
    assert all(-0.01 <= x <= found.width for x in found.x.values())
    for (a, b), way in found.lines.items():
        assert a in needs[b] and all(below[1] > above[1] for above, below in pairwise(way))


names_drawn = st.text(min_size=1, max_size=30)


@many
@given(
    st.lists(
        st.tuples(
            names_drawn, names_drawn, st.sampled_from(["", "done", "failed", "odd"]), st.none() | st.integers(0, 500)
        ),
        max_size=6,
        unique_by=lambda each: each[0],
    )
)
def test_pictures_escape_every_name(found: list[tuple[str, str, str, int | None]]) -> None:
    before: list[str] = []
    drawn_nodes = []
    for name, when, state, count in found:
        drawn_nodes.append(Node(name, when, tuple(before[-2:]), when, count, state, note=when))
        before.append(name)
    svg = picture(drawn_nodes)
    svg = svg[svg.index("<svg") : svg.rindex("</svg>") + 6]
    ElementTree.fromstring(svg)
    assert told(drawn_nodes, "x") and len(tree(drawn_nodes).splitlines()) >= len(drawn_nodes)


def row(step: str, state: str, name: str | None = None, attempt: int = 1, **more: Any) -> StepRow:
    """A row of a run."""
    return StepRow("r" * 32, name or step, attempt, "nightly", step, 0, state, **more)


def test_a_run_is_drawn_as_it_stands(ws: Workspace) -> None:
    put(ws, GOOD)
    pipeline = find("nightly", ws)
    rows = [
        row("ingest", "failed", started=1.0, ended=2.0),
        row("ingest", "done", attempt=2, started=3.0, ended=5.0),
        row("train", "done", "train[lr=0.1]", started=5.0, ended=65.0),
        row("train", "failed", "train[lr=0.2]", started=6.0, ended=9.0, error={"what": "KeyError: x", "cell": 4}),
        row("report", "skipped", reason="train failed"),
    ]
    ingest, train, report = nodes(pipeline, rows)
    assert (ingest.state, ingest.seconds, train.state, train.stack, train.word) == (
        "done",
        2.0,
        "failed",
        "×2",
        "1 done, 1 failed",
    )
    assert train.seconds == 60.0 and report.state == "skipped"
    (block,) = drawn(pipeline, rows)
    text = to_text([block])
    assert text.splitlines() == [
        "✓ ingest  done  2.0 s",
        "↓ ✗ train ×2  1 done, 1 failed  60 s  cell 4: KeyError: x",
        "↓ – report  skipped",
    ]
    assert "1 done, 1 failed" in block.svg and "after train" in block.alt  # type: ignore[union-attr]
    assert [each.state for each in nodes(pipeline, [])] == ["waiting"] * 3
    plan = graph("nightly", home=ws.root)
    assert [each["instances"] for each in plan.steps] == [1, 2, 1] and plan.problems == 0


def test_a_secret_goes_on_as_its_name(ws: Workspace) -> None:
    write(ws.root / "notebooks/send.ipynb", "token: str\nplace = ''")
    text = "[parameters]\ntoken = 'secret:CHAT'\n[steps.send]\nnotebook = '../notebooks/send.ipynb'\nparameters = { token = '{{ parameters.token }}' }\n"
    put(ws, text, "send")
    assert check("send", home=ws.root).ok
    pipeline = find("send", ws)
    (only,) = instances(pipeline, "send", context(LATELY, bound(pipeline, {})))
    assert plain(dict(only.values)) == {"token": "secret:CHAT"}
    put(ws, text.replace("secret:CHAT", "hunter2"), "send")
    wrong = examined("send", ws)[1]
    assert (
        {each.line for each in wrong} == {2} and "looks like a secret" in wrong[0].what and "hunter2" not in str(wrong)
    )
    assert init(str(ws.root / "notebooks/send.ipynb"), out="drafted", home=ws.root).problems == []


def test_a_file_that_is_wrong_is_drawn_as_far_as_it_goes(ws: Workspace) -> None:
    put(ws, GOOD.replace("[steps.ingest]\n", "[steps.ingest]\nneeds = ['report']\n"))
    found = graph("nightly", home=ws.root)
    assert len(found.steps) == 3 and found.problems >= 1 and "pipeline check nightly" in str(found)


# ----------------------------------------------------------------------------------------------------------------- drafts

spellings = st.sampled_from(
    ["{0}: str", "{0}: int", "{0}: float = 0.5", "{0} = None", "{0} = 'a \"b\" {{{{ x }}}} \\n'", "{0}: list[str]", "{0} = ['a', 1, None]", "{0} = {{1: 2}}", "{0}: dict[str, int] | None",
     "{0} = 10**30", "{0}: 'date'", "{0} = float('nan')", "{0}: Path  # a # b [c] = d", "{0}: Literal['a', 2, None]", "{0}: Any", "{0}: bool = True  # é \\u2028 🙂", "{0}: Optional[tuple[int, ...]]"]
)  # fmt: skip
one_notebook = st.tuples(
    st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12),
    st.dictionaries(st.sampled_from(["data", "model", "lr", "day", "x1"]), spellings, max_size=4),
    st.lists(st.sampled_from(["data", "model", "day", "odd name", "é"]), max_size=2),
)


@some
@given(st.lists(one_notebook, min_size=1, max_size=4))
def test_a_draft_passes_its_check(tmp_path_factory: pytest.TempPathFactory, picked: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("draft")
    files = []
    for place, (name, parameters, outputs) in enumerate(picked):
        assume(name not in (".", "..") and len(name.encode()) < 100)
        cell = "\n".join(spelling.format(each) for each, spelling in parameters.items())
        file = folder / str(place % 2) / f"{name}.ipynb"
        files.append(str(write(file, cell, "import aiplat", *(f"aiplat.output({each!r}, 1)" for each in outputs))))
    ws = create(folder)
    done = init(*files, out="draft", home=folder)
    assert done.problems == [] and len(done.steps) == len(picked)
    pipeline = find("draft", ws)
    assert problems(pipeline) == [] and list(pipeline.steps) == done.steps
    assert [step.notebook for step in pipeline.steps.values()] == [Path(each).resolve() for each in files]
    assert set(done.required) == set(pipeline.parameters)
    before = Path(done.file).read_bytes()
    with pytest.raises(UserError, match="exists"):
        init(*files, out="draft", home=folder)
    assert Path(done.file).read_bytes() == before


def test_a_draft_wires_what_fits(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ws.root)
    assert (
        cli.main(
            [
                "pipeline",
                "init",
                "notebooks/ingest.ipynb",
                "notebooks/train.ipynb",
                "notebooks/report.ipynb",
                "--out",
                "night",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "ingest.data" in said and "-p day VALUE" in said
    pipeline = find("night", ws)
    assert pipeline.steps["train"].parameters == {"data": "{{ steps.ingest.data }}"} and pipeline.steps[
        "report"
    ].needs == ("train",)
    with pytest.raises(UserError, match="'day'"):
        bound(pipeline, {})
    assert cli.main(["pipeline", "init", "notebooks/nothing.ipynb"]) == 1
    assert cli.main(["pipeline", "init"]) == 2
    assert not (ws.root / "pipelines/nothing.toml").exists()
    write(ws.root / "notebooks/frame.ipynb", "import pandas as pd\ndf: pd.DataFrame")
    with pytest.raises(UserError, match="no file can give"):
        init("notebooks/frame.ipynb")


def test_a_notebook_is_a_pipeline(ws: Workspace) -> None:
    pipeline = find(ws.root / "notebooks/train.ipynb", ws)
    assert (
        isinstance(pipeline, Pipeline)
        and list(pipeline.steps) == ["train"]
        and pipeline.file is None
        and not pipeline.steps["train"].cache
    )
    assert problems(pipeline) == []
    values = bound(pipeline, {"data": "x", "lr": "0.3"})
    (only,) = instances(pipeline, "train", context(LATELY, values))
    assert (only.key, dict(only.values)) == ("train", {"data": "x", "lr": 0.3})
    with pytest.raises(UserError, match="no parameter 'dat'"):
        bound(pipeline, {"dat": 1})


def test_plans_are_light() -> None:
    """A plan travels: to another process, to another machine."""
    import pickle

    pipeline, wrong = reading(GOOD, Path("nightly.toml"))
    assert not wrong and pickle.loads(pickle.dumps(pipeline)) == pipeline
    assert plans.after(pipeline.steps, ["ingest"]) == {"train", "report"} and plans.before(
        pipeline.steps, "report"
    ) == {"train", "ingest"}
    moved: Callable[[dict[str, str]], Moment] = Moment.of
    assert moved(LATELY.to_dict()) == LATELY and spelled(1) == "1"
