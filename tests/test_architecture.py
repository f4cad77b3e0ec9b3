"""The structure the design draws: which way imports point, what is public, what a device installs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from arm import wheels

import edgepatch

ROOT = Path(__file__).resolve().parents[1]

# a package may import those to its right and itself; what stands in no list is free for all
LAYERS = (
    "cli",
    "demo",
    "many",
    "training",
    "converters",
    "patches",
    "backbones",
    "evaluation",
    "bench",
    "data",
    "updates",
    "runtime",
    "blob",
)
DEVICE = (
    "runtime",
    "blob",
    "codec",
    "feature_statistics",
    "trunk",
    "quantisation",
    "container",
    "imaging",
    "files",
    "errors",
    "evaluation",
    "bench",
    "data",
    "updates",
    "metrics",
    "progress",
    "boxes",
    "box_metrics",
    "drawing",
    "head_network",
)
HOST_PACKAGES = {"tensorflow", "keras", "onnx", "flatbuffers", "matplotlib", "pickle", "sklearn"}
# what runs code out of data, starts programs or speaks to a network: not under edgepatch.runtime, nor where it leads
UNSAFE_MODULES = {
    *("pickle", "marshal", "shelve", "dill", "yaml", "code", "runpy", "pty", "ctypes", "cffi"),
    *("subprocess", "multiprocessing", "socket", "socketserver", "ssl", "http", "urllib", "urllib3", "requests"),
    *("ftplib", "smtplib", "xmlrpc", "asyncio", "webbrowser", "tuf", "securesystemslib"),
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
UNSAFE_ATTRIBUTES = {"system", "popen", "fork", "execv", "execve", "spawnv", "startfile", "load_module"}


def modules() -> dict[str, ast.Module]:
    """Every module of the project by dotted name."""
    found = {}
    for path in sorted((ROOT / "edgepatch").rglob("*.py")):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = ast.parse(path.read_text())
    for path in sorted((ROOT / "converters").rglob("*.py")):
        found[f"edgepatch.converters.{path.stem}"] = ast.parse(path.read_text())
    return found


def imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "edgepatch" and parts[1] in LAYERS else None


def test_imports_point_one_way() -> None:
    wrong = []
    for name, tree in modules().items():
        for imported in imports(tree):
            mine, theirs = layer(name), layer(imported)
            if mine and theirs and LAYERS.index(theirs) < LAYERS.index(mine):
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_the_device_side_imports_no_host_package() -> None:
    wrong = []
    for name, tree in modules().items():
        if name.split(".")[1:2] and name.split(".")[1] in DEVICE:
            wrong += [f"{name} imports {found}" for found in imports(tree) if found.split(".")[0] in HOST_PACKAGES]
    assert wrong == []


def runtime_modules() -> dict[str, ast.Module]:
    """`edgepatch.runtime`, and whatever of edgepatch it imports."""
    every = modules()
    found: dict[str, ast.Module] = {}
    ahead = [name for name in every if name.startswith("edgepatch.runtime.")]
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        found[name] = every[name]
        for imported in imports(every[name]):
            tried = (imported, f"{imported}.__init__", imported.rpartition(".")[0])
            ahead += [each for each in tried if each in every]
    return found


def unsafe(tree: ast.Module) -> set[str]:
    """What a module uses that a runtime on a device has no use for."""
    found = {name for name in imports(tree) if name.partition(".")[0] in UNSAFE_MODULES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
            found.add(f"{node.func.id}()")
        elif isinstance(node, ast.Attribute) and node.attr in UNSAFE_ATTRIBUTES:
            found.add(f".{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.add("allow_pickle")
    return found


def test_the_runtime_runs_no_code_out_of_data_starts_no_program_and_speaks_to_no_network() -> None:
    seen = runtime_modules()
    assert {"edgepatch.runtime.runtime", "edgepatch.blob", "edgepatch.container", "edgepatch.files"} <= seen.keys()
    assert {name: found for name, tree in seen.items() if (found := unsafe(tree))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from urllib import request",
        "import os\nos.system('ls')",
        "from subprocess import run",
        "def f(x):\n    return eval(x)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)
def test_what_the_runtime_must_not_use_is_seen(source: str) -> None:
    assert unsafe(ast.parse(source))


def test_pickle_is_imported_in_one_place_only() -> None:
    users = [name for name, tree in modules().items() if "pickle" in {found.split(".")[0] for found in imports(tree)}]
    assert users == ["edgepatch.backbones.weights.torch_file"]


@pytest.mark.parametrize("name", edgepatch.__all__)
def test_every_public_name_imports_and_is_documented(name: str) -> None:
    value = getattr(edgepatch, name)
    assert name == "__version__" or value.__doc__


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, tree in modules().items() if not ast.get_docstring(tree)] == []


def test_a_public_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        edgepatch.Runtim  # noqa: B018


def test_the_wheel_holds_converters_and_labels(tmp_path: Path) -> None:
    call = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(wheels.copied(tmp_path / "sources")),
    ]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {
        "edgepatch/converters/tflite.py",
        "edgepatch/backbones/data/imagenet_labels.txt",
        "edgepatch/cli/run.py",
    } <= names
    needed = [
        line.split()[1].split(">")[0]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert sorted(needed) == ["click", "numpy", "pillow"]
    assert not any(name.startswith(("tests/", "converters/")) for name in names)


def test_every_module_imports() -> None:
    for name in modules():
        if name not in ("edgepatch.__main__",):
            importlib.import_module(name.removesuffix(".__init__"))


def test_no_page_is_left_with_an_empty_table_or_a_placeholder() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<!-- (\w+) -->\s*<!-- end \1 -->", text), f"{page.name} has an empty table"
        assert not re.search(r"@[A-Z]+@", text), f"{page.name} has a placeholder"
