"""Check a packed APK: manifest, permissions, dex, native libraries, seeds, alignment, signature, size.

    python3 tools/check_apk.py build/edgepatch-demo.apk [--json]

Each check prints one line; the exit code is 1 if any fails.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

PACKAGE, ACTIVITY = "io.edgepatch.demo", "io.edgepatch.demo.MainActivity"
PERMISSIONS = ["android.permission.CAMERA"]
MIN_SDK, TARGET_SDK = 26, 35
ABIS = {"arm64-v8a": 183, "armeabi-v7a": 40, "x86_64": 62}  # by ELF machine
LIBRARY = "libtensorflowlite_jni.so"
CLASSES = (
    "Lio/edgepatch/demo/MainActivity;",
    "Lio/edgepatch/demo/DemoApp;",
    "Lio/edgepatch/patchkit/file/PatchFile;",
    "Lorg/tensorflow/lite/Interpreter;",
    "Lkotlin/jvm/internal/Intrinsics;",
)
FEATURES = ["android.hardware.faketouch"]  # what a device must have: what Android asks of all
LARGEST = 13_000_000  # without seeds and further engines


class WrongError(Exception):
    """A check that failed, in one sentence."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("apk", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [check(one, given.apk) for one in (manifest, permissions, dex, libraries, seeds, aligned, signature, size)]
    if given.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{'ok  ' if row['ok'] else 'FAIL'} {row['check']:<12} {row['found']}")
    return 0 if all(row["ok"] for row in rows) else 1


def check(one: Callable[[Path], str], apk: Path) -> dict[str, object]:
    try:
        return {"check": one.__name__, "ok": True, "found": one(apk)}
    except (WrongError, OSError, zipfile.BadZipFile, KeyError) as error:
        return {"check": one.__name__, "ok": False, "found": str(error)}
    except (ValueError, IndexError, struct.error, zlib.error) as error:  # what damaged files come to
        return {"check": one.__name__, "ok": False, "found": f"{apk.name} is damaged: {error}"}


def manifest(apk: Path) -> str:
    """Package, versions and the activity that is launched."""
    text = output("aapt2", "dump", "badging", apk)
    found = re.search(r"package: name='([^']*)' versionCode='(\d+)' versionName='([^']+)'", text)
    if not found or found[1] != PACKAGE:
        raise WrongError(f"no package {PACKAGE} with a version")
    if f"launchable-activity: name='{ACTIVITY}'" not in text:
        raise WrongError(f"{ACTIVITY} is not launched")
    for line in (f"sdkVersion:'{MIN_SDK}'", f"targetSdkVersion:'{TARGET_SDK}'"):
        if line not in text:
            raise WrongError(f"no {line}")
    needed = re.findall(r"uses-feature: name='([^']*)'", text)
    if needed != FEATURES:
        raise WrongError(f"devices must have {needed}, expected {FEATURES}")
    return f"{found[1]} {found[3]} ({found[2]}), API {MIN_SDK} to {TARGET_SDK}"


def permissions(apk: Path) -> str:
    text = output("aapt2", "dump", "badging", apk)
    found = re.findall(r"uses-(?:implied-)?permission(?:-sdk-\d+)?: name='([^']*)'", text)
    if found != PERMISSIONS:
        raise WrongError(f"{found}, expected {PERMISSIONS}")
    return ", ".join(found)


def dex(apk: Path) -> str:
    """Headers and checksums, and that the classes which have to be there are defined in one of the files."""
    defined: set[str] = set()
    methods = 0
    with zipfile.ZipFile(apk) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"classes\d*\.dex", name)]
        for name in names:
            data = archive.read(name)
            if data[:4] != b"dex\n" or data[7:8] != b"\0":
                raise WrongError(f"{name} is no dex file")
            if struct.unpack_from("<I", data, 8)[0] != zlib.adler32(data[12:]):
                raise WrongError(f"{name} is damaged")
            methods += struct.unpack_from("<I", data, 88)[0]
            defined |= set(class_names(data))
    absent = [name for name in CLASSES if name not in defined]
    if not names or absent:
        raise WrongError(f"{', '.join(absent)} missing")
    return f"{', '.join(names)}: {len(defined)} classes, {methods} methods"


def class_names(data: bytes) -> list[str]:
    """Descriptors of the classes that a dex file defines."""
    (_, strings, _, types), (count, defs) = struct.unpack_from("<IIII", data, 56), struct.unpack_from("<II", data, 96)
    found = []
    for number in range(count):
        (index,) = struct.unpack_from("<I", data, defs + 32 * number)
        (text,) = struct.unpack_from("<I", data, types + 4 * index)
        (at,) = struct.unpack_from("<I", data, strings + 4 * text)
        while data[at] & 0x80:  # the length, seven bits a byte
            at += 1
        found.append(data[at + 1 : data.index(b"\0", at + 1)].decode("utf-8", "replace"))
    return found


def libraries(apk: Path) -> str:
    """For each ABI the engine's library, of that machine, and stored as it is, to be mapped."""
    with zipfile.ZipFile(apk) as archive:
        found: dict[str, list[str]] = {}
        for entry in archive.infolist():
            if not entry.filename.startswith("lib/"):
                continue
            _, abi, name = entry.filename.split("/")
            head = archive.read(entry)[:20]
            if head[:4] != b"\x7fELF" or struct.unpack_from("<H", head, 18)[0] != ABIS.get(abi):
                raise WrongError(f"{entry.filename} is not of its machine")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise WrongError(f"{entry.filename} is compressed")
            found.setdefault(abi, []).append(name)
    for abi in ABIS:
        if LIBRARY not in found.get(abi, []):
            raise WrongError(f"no {LIBRARY} for {abi}")
    return "; ".join(f"{abi}: {', '.join(names)}" for abi, names in sorted(found.items()))


def seeds(apk: Path) -> str:
    """What the app begins with is readable in place, or there is nothing."""
    with zipfile.ZipFile(apk) as archive:
        found = [entry for entry in archive.infolist() if entry.filename.startswith("assets/seeds/")]
        packed = [entry.filename for entry in found if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise WrongError(f"{packed[0]} is compressed")
    names = [Path(entry.filename).name for entry in found]
    if names and not any(name.endswith((".tflite", ".onnx")) for name in names):
        raise WrongError("patches without a graph")
    return ", ".join(names) if names else "none: a graph and patches are to be added in the app"


def aligned(apk: Path) -> str:
    output("zipalign", "-c", "-p", "4", apk)
    return "4 bytes, libraries to pages"


def signature(apk: Path) -> str:
    text = output("apksigner", "verify", "--verbose", "--min-sdk-version", str(MIN_SDK), apk)
    schemes = re.findall(r"Verified using (v[\d.]+) scheme.*: true", text)
    if "v2" not in schemes:
        raise WrongError(f"schemes {schemes}, expected v2")
    return f"debug key, {', '.join(schemes)}"


def size(apk: Path) -> str:
    with zipfile.ZipFile(apk) as archive:
        entries = archive.infolist()
    extra = sum(entry.compress_size for entry in entries if entry.filename.startswith("assets/seeds/"))
    engines = (entry for entry in entries if entry.filename.startswith("lib/") and Path(entry.filename).name != LIBRARY)
    own = apk.stat().st_size - extra - sum(entry.compress_size for entry in engines)
    if own > LARGEST:
        raise WrongError(f"{own:,} bytes without seeds, expected at most {LARGEST:,}")
    return f"{apk.stat().st_size:,} bytes, {extra:,} of them seeds"


def output(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongError(f"{command[0]} says: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
