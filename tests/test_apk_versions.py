"""Gradle's build of the sample app, which cannot be run here, says the same as Maven's, which is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

DEMO = Path(__file__).parents[1] / "android_demo"
POMS = [DEMO / name / "pom.xml" for name in ("app", "patchkit", "tflite")]


def properties(name: str) -> set[str]:
    """What the pom.xml files say of a property."""
    found: set[str] = set()
    for pom in POMS:
        found |= set(re.findall(rf"<{re.escape(name)}>([^<]*)</", pom.read_text()))
    return found


def catalogue() -> dict[str, dict[str, str]]:
    """Gradle's catalogue of versions: what is said of each name, by table."""
    tables: dict[str, dict[str, str]] = {}
    for line in (DEMO / "gradle/libs.versions.toml").read_text().splitlines():
        if line.startswith("["):
            table = tables.setdefault(line.strip("[]"), {})
        elif line:
            name, _, value = line.partition(" = ")
            table[name] = value.partition(" #")[0]
    assert set(tables) == {"versions", "libraries", "plugins"}
    return tables


def test_the_versions_are_the_same() -> None:
    tables = catalogue()
    versions = {name: value.strip('"') for name, value in tables["versions"].items()}
    names = {
        "kotlin": "kotlin.version", "junit": "junit.version", "onnxruntime": "onnxruntime.version",
        "tflite": "tflite.version", "bytedeco": "tflite.natives.version", "javacpp": "javacpp.version",
        "robolectric": "robolectric.version",
    }  # fmt: skip
    assert set(versions) == {"agp", *names}
    for name, pom in names.items():
        assert properties(pom) == {versions[name]}, name
    entries = [*tables["libraries"].values(), *tables["plugins"].values()]
    used = {name for entry in entries for name in re.findall(r'version\.ref = "([^"]+)"', entry)}
    assert used == set(versions), "each is used, and each that is used is there"


def test_what_is_named_in_the_build_files_is_in_the_catalogue() -> None:
    tables = catalogue()
    named = {f"libs.{key.replace('-', '.')}" for key in tables["libraries"]}
    named |= {f"libs.plugins.{key.replace('-', '.')}" for key in tables["plugins"]}
    for file in [DEMO / "build.gradle.kts", *DEMO.glob("*/build.gradle.kts")]:
        for use in re.findall(r"\blibs\.(?!versions\.toml)[\w.]+", file.read_text()):
            assert use in named, f"{file.parent.name}: {use}"


def test_the_app_is_for_the_same_devices() -> None:
    gradle = (DEMO / "app/build.gradle.kts").read_text()
    spec = importlib.util.spec_from_file_location("check_apk", DEMO / "tools/check_apk.py")
    assert spec
    assert spec.loader
    check_apk = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_apk)
    assert re.findall(r"minSdk = (\d+)", gradle) == [str(check_apk.MIN_SDK)]
    assert re.findall(r"targetSdk = (\d+)", gradle) == [str(check_apk.TARGET_SDK)]
    assert (properties("minSdk"), properties("targetSdk")) == ({str(check_apk.MIN_SDK)}, {str(check_apk.TARGET_SDK)})
    assert re.findall(r'versionName = "([^"]*)"', gradle) == re.findall(r"<version>([^<]*)</", POMS[0].read_text())[:1]
    abis = re.search(r"abiFilters \+= listOf\(([^)]*)\)", gradle)
    assert abis
    assert set(re.findall(r'"([^"]+)"', abis[1])) == set(check_apk.ABIS)


def test_the_pins_are_of_the_versions() -> None:
    names = [line.split()[1] for line in (DEMO / "tools/pins.sha256").read_text().splitlines()]
    (kotlin,), (tflite,), (dx,) = properties("kotlin.version"), properties("tflite.version"), properties("dx.version")
    assert sorted(names) == sorted(
        [f"kotlin-stdlib-{kotlin}.jar", f"tensorflow-lite-{tflite}.aar", f"tensorflow-lite-api-{tflite}.aar",
         f"dalvik-dx-{dx}.jar"]
    )  # fmt: skip
