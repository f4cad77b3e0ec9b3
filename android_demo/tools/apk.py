"""Pack the sample app into a signed debug APK, with Debian's tools and jars of Maven Central, without the Android SDK.

    python3 tools/apk.py --work app/target --out build/edgepatch-demo.apk [--seeds FOLDER] [--aar FILE ...]

`mvn package` has compiled the sources and laid everything out under --work before: `classes`, `linked/resources.apk`,
`jars` (what the app runs with), `aars` (the engines), `tools` (the dexer). Nothing is fetched here. What comes from an
index counts only with the SHA-256 that pins.sha256 says.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64")  # phones, older phones, emulators
MIN_SDK = 26
STORED = (".so", ".tflite", ".onnx", ".epatch", ".arsc")  # mapped or read in place; kernels hardly shrink anyway
KEY = ("-alias", "debug", "-storepass", "android", "-keypass", "android")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same inputs make the same file, up to the key


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="what Maven has built")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=Path, help="a folder with one shared graph and patches to begin with")
    parser.add_argument("--aar", type=Path, action="append", default=[], help="a further engine, not pinned")
    given = parser.parse_args()
    jars, aars = sorted(given.work.glob("jars/*.jar")), sorted(given.work.glob("aars/*.aar"))
    dexer = next(given.work.glob("tools/dalvik-dx-*.jar"), None)
    if not jars or not aars or dexer is None:
        return fail(f"{given.work} has no jars, aars or dexer: mvn package makes them")
    pins = dict(reversed(line.split()) for line in (HERE / "pins.sha256").read_text().splitlines())
    for file in [*jars, *aars, dexer]:
        if file.name.startswith("patchkit-"):
            continue  # built here
        got = hashlib.sha256(file.read_bytes()).hexdigest()
        if pins.get(file.name) != got:
            return fail(f"{file.name} is not the pinned file (got {got}, expected {pins.get(file.name, 'none')})")
    for file in given.aar:
        print(f"{file.name}: sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}, not pinned", file=sys.stderr)
    work = given.work / "apk"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    engines = [*aars, *given.aar]
    dex(dexer, classes(given.work / "classes", jars, engines), work)
    files = {name: path.read_bytes() for path in sorted(work.glob("*.dex")) for name in [path.name]}
    files |= dict(libraries(engines))
    files |= {f"assets/seeds/{file.name}": file.read_bytes() for file in seeds(given.seeds)}
    pack(given.work / "linked/resources.apk", files, work / "packed.apk")
    run("zipalign", "-p", "-f", "4", work / "packed.apk", work / "aligned.apk")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    sign(work / "aligned.apk", given.out)
    return 0


def classes(own: Path, jars: list[Path], aars: list[Path]) -> bytes:
    """All classes in one jar; those for newer JVMs alone (META-INF/versions, module-info) are left out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as merged:
        for path in sorted(own.rglob("*.class")):
            merged.writestr(str(path.relative_to(own)), path.read_bytes())
        for file in [*jars, *aars]:
            with zipfile.ZipFile(file) as outer:
                inner = zipfile.ZipFile(io.BytesIO(outer.read("classes.jar"))) if file.suffix == ".aar" else outer
                for name in sorted(inner.namelist()):
                    if name.endswith(".class") and not name.startswith("META-INF/") and name != "module-info.class":
                        merged.writestr(name, inner.read(name))
    return stream.getvalue()


def dex(dexer: Path, jar: bytes, work: Path) -> None:
    """Android's own code of a jar: classes.dex, classes2.dex and so on."""
    (work / "classes.jar").write_bytes(jar)
    command = ("java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", dexer, "com.android.dx.command.Main", "--dex")
    run(*command, "--multi-dex", f"--min-sdk-version={MIN_SDK}", f"--output={work}", work / "classes.jar")


def libraries(aars: list[Path]) -> Iterator[tuple[str, bytes]]:
    """The engines' native libraries, by their names in the APK."""
    for aar in aars:
        with zipfile.ZipFile(aar) as archive:
            for name in sorted(archive.namelist()):
                parts = name.split("/")
                if len(parts) == 3 and parts[0] == "jni" and parts[1] in ABIS and name.endswith(".so"):
                    yield f"lib/{parts[1]}/{parts[2]}", archive.read(name)


def seeds(folder: Path | None) -> list[Path]:
    """What the app begins with: one shared graph, and the patches. Heads alone are of the host, not of the app."""
    if folder is None:
        return []
    graph = next(iter(sorted(folder.glob("*.tflite"), key=lambda file: ("int8" in file.name, file.name))), None)
    patches = sorted(file for file in folder.glob("*.epatch") if not file.name.endswith(".head.epatch"))
    return [graph, *patches] if graph else []


def pack(resources: Path, files: dict[str, bytes], out: Path) -> None:
    """The linked resources and further files, in one archive."""
    with zipfile.ZipFile(resources) as linked, zipfile.ZipFile(out, "w") as archive:
        whole = {name: linked.read(name) for name in linked.namelist()} | files
        for name, data in whole.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(STORED) else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def sign(aligned: Path, out: Path) -> None:
    """Signed with a debug key that is made at the first time and stays, so that updates install over one another."""
    store = out.parent / "debug.keystore"
    if not store.exists():
        name = ("-dname", "CN=Android Debug,O=Android,C=US", "-validity", "10000", "-keyalg", "RSA", "-keysize", "2048")
        run("keytool", "-genkeypair", "-keystore", store, "-storetype", "PKCS12", *KEY, *name)
    password = ("--ks", store, "--ks-key-alias", "debug", "--ks-pass", "pass:android", "--key-pass", "pass:android")
    how = ("--v4-signing-enabled", "false", "--min-sdk-version", MIN_SDK)  # v4 would be a file of its own
    run("apksigner", "sign", *password, *how, "--out", out, aligned)


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(fail(f"{command[0]} failed:\n{done.stdout}{done.stderr}"))


def fail(problem: str) -> int:
    print(f"apk: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
