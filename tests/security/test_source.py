"""No source file of the product unpickles, evaluates text or starts a shell, beyond the places named here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("datasets", "trainables", "sweep", "search_spaces", "analysis")
# a call by its written name -> the files that may have it, and why
ALLOWED = {
    "pickle.Unpickler": {"datasets/cifar.py"},  # restricted to NumPy arrays, see test_unpickled
    "importlib.import_module": {
        "trainables/core/load.py",  # a dotted name is the user's own code
        "datasets/transforms/load.py",  # the same
        "sweep/doctor.py",  # fixed names of packages
        "trainables/extractors/base.py",  # the same
    },
    "exec_module": {"sweep/spec.py"},  # a sweep that the user wrote in Python and named on the command line
}
NEVER = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "run_path", "run_module", "read_pickle"}
UNPICKLING = {"joblib", "dill", "cloudpickle", "shelve", "marshal", "pickle", "numpy.lib.npyio", "jsonpickle"}
LOADERS = {"load", "loads", "Unpickler", "open"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"}


def name_of(node: ast.expr) -> str:
    """A call's name as written: `np.load`, `x.eval` as `.eval`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else ''}.{node.attr}"
    return ""


def is_true(call: ast.Call, keyword: str) -> bool:
    return any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords)


def offences(tree: ast.AST) -> Iterator[str]:
    """Every call that could run what a file holds, by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLING:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        yield from (name_of(base) for base in bases if name_of(base) == "pickle.Unpickler")
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        module, _, last = name.rpartition(".")
        unpickles = module in UNPICKLING and last in LOADERS
        if unpickles or name in NEVER or last in NEVER - {"eval", "compile"}:  # `method.eval()`, `re.compile` do not
            yield name
        elif module == "torch" and last == "load" and not is_true(node, "weights_only"):
            yield "torch.load without weights_only=True"
        elif any(keyword.arg == "allow_pickle" for keyword in node.keywords):
            yield f"{name} with allow_pickle"
        elif module == "yaml" and last in UNSAFE_YAML:
            yield name
        elif is_true(node, "shell"):
            yield f"{name} with shell=True"
        elif name == "importlib.import_module" or last == "exec_module":
            yield name if name == "importlib.import_module" else last


@pytest.mark.parametrize("package", OURS)
def test_nothing_of_the_product_runs_what_a_file_holds(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        where = path.relative_to(ROOT).as_posix()
        for offence in offences(ast.parse(path.read_text())):
            assert where in ALLOWED.get(offence, set()), f"{where}: {offence}"


def test_every_exception_is_still_needed() -> None:
    for offence, files in ALLOWED.items():
        for where in files:
            assert offence in set(offences(ast.parse((ROOT / where).read_text()))), f"{where} has no {offence} any more"


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(f)", "pickle.loads(b)", "from pickle import loads", "class A(pickle.Unpickler): pass",
        "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)", "yaml.load(t)",
        "yaml.unsafe_load(t)", "eval(t)", "exec(t)", "joblib.load(p)", "from joblib import load", "os.system(c)",
        "subprocess.run(c, shell=True)", "importlib.import_module(n)", "a.loader.exec_module(m)", "pd.read_pickle(p)",
    ],
)  # fmt: skip
def test_the_search_finds(code: str) -> None:
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["method.eval()", "re.compile(t)", "json.loads(t)", "torch.load(p, weights_only=True)", "yaml.safe_load(t)"],
)
def test_the_search_leaves_alone(code: str) -> None:
    assert not list(offences(ast.parse(code)))
