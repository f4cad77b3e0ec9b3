"""The checks of the sample app's package (android_demo/tools) fail when they should.

A small APK that passes them all is made by the tools that `make apk` uses, Maven left out; then it is broken one way
after the other.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "android_demo/tools"
NEEDED = ("aapt2", "zipalign", "apksigner", "keytool")
ABSENT = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"this machine lacks {', '.join(ABSENT)}")

Files = dict[str, bytes]
CHECKS = ["manifest", "permissions", "dex", "libraries", "seeds", "aligned", "signature", "size"]
# Android's own names, as its framework numbers them, for aapt2 to compile against
ATTRIBUTES = {
    "label": (0x01010001, "string"), "name": (0x01010003, "string"), "debuggable": (0x0101000F, "boolean"),
    "exported": (0x01010010, "boolean"), "minSdkVersion": (0x0101020C, "integer"),
    "versionCode": (0x0101021B, "integer"), "versionName": (0x0101021C, "string"),
    "targetSdkVersion": (0x01010270, "integer"), "required": (0x0101028E, "boolean"),
}  # fmt: skip
MANIFEST = """<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="io.edgepatch.demo"
        android:versionCode="1" android:versionName="0.1.0">
    <uses-sdk android:minSdkVersion="26" android:targetSdkVersion="35" />
    <uses-permission android:name="android.permission.CAMERA" />
    <uses-feature android:name="android.hardware.camera" android:required="false" />
    <application android:debuggable="true">
        <activity android:name="io.edgepatch.demo.MainActivity" android:exported="true">
            <intent-filter>
                <action android:name="android.intent.action.MAIN" />
                <category android:name="android.intent.category.LAUNCHER" />
            </intent-filter>
        </activity>
    </application>
</manifest>"""


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_apk = tool("check_apk")


class Maker:
    """Makes small APKs in a folder, with one framework and one key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.store = folder / "debug.keystore"
        self.manifests: dict[str, bytes] = {}
        name = ("-dname", "CN=Test", "-validity", "10", "-keyalg", "EC", "-alias", "debug", "-storepass", "android")
        run("keytool", "-genkeypair", "-keystore", self.store, "-storetype", "PKCS12", *name)
        values = folder / "framework/values"
        values.mkdir(parents=True)
        lines = [
            f'<attr name="{name}" format="{kind}" /><public type="attr" name="{name}" id="0x{number:08x}" />'
            for name, (number, kind) in ATTRIBUTES.items()
        ]
        (values / "attrs.xml").write_text(f"<resources>{''.join(lines)}</resources>")
        (folder / "framework.xml").write_text('<manifest package="android" />')
        run("aapt2", "compile", "--dir", folder / "framework", "-o", folder / "framework.zip")
        out = ("-o", folder / "framework.apk")
        run("aapt2", "link", "--manifest", folder / "framework.xml", *out, folder / "framework.zip")

    def manifest(self, text: str) -> bytes:
        """Compiled, as it lies in an APK."""
        if text not in self.manifests:
            (self.folder / "AndroidManifest.xml").write_text(text)
            made = self.folder / "linked.apk"
            library = ("-I", self.folder / "framework.apk")
            run("aapt2", "link", *library, "--manifest", self.folder / "AndroidManifest.xml", "-o", made)
            with zipfile.ZipFile(made) as archive:
                self.manifests[text] = archive.read("AndroidManifest.xml")
        return self.manifests[text]

    def packed(self, files: Files, deflated: str = ".xml") -> Path:
        """Not aligned and not signed; files with an ending are compressed."""
        self.number += 1
        path = self.folder / f"{self.number}.apk"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                how = zipfile.ZIP_DEFLATED if name.endswith(deflated) else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(name), data, how)
        return path

    def aligned(self, apk: Path) -> Path:
        out = apk.with_suffix(".aligned.apk")
        run("zipalign", "-p", "-f", "4", apk, out)
        return out

    def signed(self, apk: Path, *how: str) -> Path:
        out = apk.with_suffix(".signed.apk")
        key = ("--ks", self.store, "--ks-pass", "pass:android", "--v4-signing-enabled", "false")
        run("apksigner", "sign", *key, *(how or ("--min-sdk-version", "26")), "--out", out, apk)
        return out


def dex(classes: tuple[str, ...]) -> bytes:
    """A dex file that defines classes without members: what of it is read here is in its place."""
    names = sorted(classes)
    header, size = 112, len(names)
    strings, types = header, header + 4 * size
    defs = types + 4 * size
    at, offsets, text = defs + 32 * size, [], b""
    for name in names:
        offsets.append(at + len(text))
        text += bytes([len(name)]) + name.encode() + b"\0"
    table = struct.pack(f"<{size}I", *offsets) + struct.pack(f"<{size}I", *range(size))
    table += b"".join(struct.pack("<8I", number, 1, *[0xFFFFFFFF] * 6) for number in range(size))
    counts = struct.pack("<14I", size, strings, size, types, 0, 0, 0, 0, 0, 0, size, defs, len(text), at)
    rest = struct.pack("<6I", header + len(table) + len(text), header, 0x12345678, 0, 0, 0) + counts + table + text
    body = hashlib.sha1(rest).digest() + rest
    return b"dex\n035\0" + struct.pack("<I", zlib.adler32(body)) + body


def library(machine: int) -> bytes:
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(100)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("apk"))


@pytest.fixture
def files(maker: Maker) -> Files:
    """All that an APK has to hold."""
    return whole(maker)


@pytest.fixture(scope="module")
def sound(maker: Maker) -> Path:
    return maker.signed(maker.aligned(maker.packed(whole(maker))))


def whole(maker: Maker) -> Files:
    found = {"AndroidManifest.xml": maker.manifest(MANIFEST), "classes.dex": dex(check_apk.CLASSES)}
    found |= {f"lib/{abi}/{check_apk.LIBRARY}": library(machine) for abi, machine in check_apk.ABIS.items()}
    return found | {"assets/seeds/graph.tflite": b"graph", "assets/seeds/digits.epatch": b"patch"}


def refused(check: str, apk: Path) -> str:
    """What a check has against an APK."""
    row = check_apk.check(getattr(check_apk, check), apk)
    assert not row["ok"], row
    return str(row["found"])


def passes(check: str, apk: Path) -> str:
    row = check_apk.check(getattr(check_apk, check), apk)
    assert row["ok"], row
    return str(row["found"])


def test_a_sound_one_passes_and_a_broken_one_does_not(maker: Maker, sound: Path, files: Files) -> None:
    command = [sys.executable, str(TOOLS / "check_apk.py")]
    done = subprocess.run([*command, str(sound)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["ok", name] for name in CHECKS]
    del files["classes.dex"]
    done = subprocess.run([*command, str(maker.packed(files))], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == ["dex", "aligned", "signature"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('package="io.edgepatch.demo"', 'package="io.edgepatch.other"', "no package io.edgepatch.demo"),
        ('android:versionName="0.1.0"', "", "no package io.edgepatch.demo with a version"),
        ("android.intent.category.LAUNCHER", "android.intent.category.DEFAULT", "MainActivity is not launched"),
        ('minSdkVersion="26"', 'minSdkVersion="21"', "no sdkVersion:'26'"),
        ('targetSdkVersion="35"', 'targetSdkVersion="34"', "no targetSdkVersion:'35'"),
        ('android:required="false"', "", "android.hardware.camera"),
        ('<uses-feature android:name="android.hardware.camera" android:required="false" />', "", "hardware.camera"),
    ],
)
def test_the_manifest(maker: Maker, files: Files, old: str, new: str, problem: str) -> None:
    assert passes("manifest", maker.packed(files)) == "io.edgepatch.demo 0.1.0 (1), API 26 to 35"
    files["AndroidManifest.xml"] = maker.manifest(MANIFEST.replace(old, new))
    assert problem in refused("manifest", maker.packed(files))


@pytest.mark.parametrize(
    "line",
    [
        '<uses-permission android:name="android.permission.INTERNET" />',
        '<uses-permission-sdk-23 android:name="android.permission.INTERNET" />',
    ],
)
def test_a_second_permission(maker: Maker, files: Files, line: str) -> None:
    assert passes("permissions", maker.packed(files)) == "android.permission.CAMERA"
    files["AndroidManifest.xml"] = maker.manifest(MANIFEST.replace("<application", f"{line}<application"))
    assert "android.permission.INTERNET" in refused("permissions", maker.packed(files))


def test_no_permission(maker: Maker, files: Files) -> None:
    line = '<uses-permission android:name="android.permission.CAMERA" />'
    files["AndroidManifest.xml"] = maker.manifest(MANIFEST.replace(line, ""))
    assert refused("permissions", maker.packed(files)).startswith("[], expected")


def damaged(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (damaged, "classes.dex is damaged"),
        (lambda whole: b"PK" + whole[2:], "is no dex file"),
        (lambda whole: whole[:60], "damaged"),
        (lambda whole: b"", "is no dex file"),
        (lambda whole: dex(check_apk.CLASSES[1:]), "Lio/edgepatch/demo/MainActivity; missing"),
        (lambda whole: dex(check_apk.CLASSES[:2]), "Lorg/tensorflow/lite/Interpreter;"),
    ],
)
def test_the_dex(maker: Maker, files: Files, change: Callable[[bytes], bytes], problem: str) -> None:
    assert passes("dex", maker.packed(files)).startswith("classes.dex: 5 classes")
    files["classes.dex"] = change(files["classes.dex"])
    assert problem in refused("dex", maker.packed(files))
    del files["classes.dex"]
    assert "missing" in refused("dex", maker.packed(files))


def test_classes_may_be_in_two_files(maker: Maker, files: Files) -> None:
    files |= {"classes.dex": dex(check_apk.CLASSES[:2]), "classes2.dex": dex(check_apk.CLASSES[2:])}
    assert passes("dex", maker.packed(files)).startswith("classes.dex, classes2.dex: 5 classes")


@pytest.mark.parametrize("abi", sorted(check_apk.ABIS))
def test_an_abi_is_missing(maker: Maker, files: Files, abi: str) -> None:
    del files[f"lib/{abi}/{check_apk.LIBRARY}"]
    assert refused("libraries", maker.packed(files)) == f"no {check_apk.LIBRARY} for {abi}"


def test_the_libraries(maker: Maker, files: Files) -> None:
    assert passes("libraries", maker.packed(files)).count(check_apk.LIBRARY) == 3
    assert "is compressed" in refused("libraries", maker.packed(files, deflated=".so"))
    name = f"lib/arm64-v8a/{check_apk.LIBRARY}"
    for wrong in (library(check_apk.ABIS["x86_64"]), b"text", b""):
        assert refused("libraries", maker.packed(files | {name: wrong})) == f"{name} is not of its machine"
    assert "is damaged" in refused("libraries", maker.packed(files | {name: b"\x7fELF"}))
    for place in ("lib/mips/liba.so", "lib/arm64-v8a/deep/liba.so", "lib/liba.so"):
        assert refused("libraries", maker.packed(files | {place: library(183)}))


def test_the_seeds(maker: Maker, files: Files) -> None:
    assert passes("seeds", maker.packed(files)) == "graph.tflite, digits.epatch"
    assert "is compressed" in refused("seeds", maker.packed(files, deflated=".epatch"))
    del files["assets/seeds/graph.tflite"]
    assert refused("seeds", maker.packed(files)) == "patches without a graph"
    del files["assets/seeds/digits.epatch"]
    assert passes("seeds", maker.packed(files)).startswith("none")


def test_the_alignment(maker: Maker, files: Files) -> None:
    apk = maker.packed({"odd": b"1"} | files)
    assert refused("aligned", apk)
    assert passes("aligned", maker.aligned(apk))
    out = apk.with_suffix(".four.apk")
    run("zipalign", "-f", "4", apk, out)  # to words, but not to pages
    assert refused("aligned", out)


def test_the_signature(maker: Maker, files: Files, sound: Path) -> None:
    assert "v2" in passes("signature", sound)
    unsigned = maker.aligned(maker.packed(files))
    assert refused("signature", unsigned).startswith("apksigner says: DOES NOT VERIFY")
    data = sound.read_bytes()
    at = data.index(b"\x7fELF") + 30
    changed = sound.with_suffix(".changed.apk")
    changed.write_bytes(damaged(data[: at + 1]) + data[at + 1 :])
    assert refused("signature", changed).startswith("apksigner says: DOES NOT VERIFY")


def test_the_oldest_scheme_alone_will_not_do(maker: Maker, files: Files) -> None:
    how = ("--v1-signing-enabled", "true", "--v2-signing-enabled", "false", "--v3-signing-enabled", "false")
    old = maker.signed(maker.aligned(maker.packed(files)), *how, "--min-sdk-version", "23")
    assert refused("signature", old)


def test_the_size(maker: Maker, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    apk = maker.packed(files)
    assert passes("size", apk).endswith("10 of them seeds")
    own = apk.stat().st_size - 10
    monkeypatch.setattr(check_apk, "LARGEST", own)
    assert passes("size", apk)
    further = files | {"lib/arm64-v8a/libonnxruntime.so": bytes(10_000)}
    monkeypatch.setattr(check_apk, "LARGEST", own + 300)
    assert passes("size", maker.packed(further)), "a further engine does not count, but for its entry"
    monkeypatch.setattr(check_apk, "LARGEST", own - 1)
    assert refused("size", apk).startswith(f"{own:,} bytes without seeds")


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_no_apk(check: str, tmp_path: Path) -> None:
    for name, data in {"empty.apk": b"", "text.apk": b"no archive at all", "cut.apk": b"PK\3\4" + bytes(40)}.items():
        (tmp_path / name).write_bytes(data)
        assert refused(check, tmp_path / name)
    assert refused(check, tmp_path / "absent.apk")


@pytest.mark.parametrize("kind", ["jars/kotlin-stdlib-2.1.21.jar", "aars/tensorflow-lite-2.16.1.aar"])
def test_what_was_fetched_counts_only_as_it_is_pinned(tmp_path: Path, kind: str) -> None:
    for name in ("jars/patchkit-0.1.0.jar", "aars/other.aar", "tools/dalvik-dx-16.0.1.jar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "aars/other.aar").unlink()
    (tmp_path / "aars/tensorflow-lite-2.16.1.aar").write_bytes(b"")
    (tmp_path / kind).write_bytes(b"another")
    command = [sys.executable, str(TOOLS / "apk.py"), "--work", str(tmp_path), "--out", str(tmp_path / "out.apk")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{Path(kind).name} is not the pinned file" in done.stderr
    assert not (tmp_path / "out.apk").exists()
