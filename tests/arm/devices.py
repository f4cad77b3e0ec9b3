"""The machines, and what is installed on each: the rows of docs/raspberry-pi.md."""

from __future__ import annotations

import dataclasses

# What /proc/cpuinfo says there. Emulated programs would read this machine's own, and the interpreters' detection of
# the processor, which expects ARM's words, crashes on it.
CORTEX_A72 = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
CORTEX_A76 = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
CORTEX_A7 = """processor\t: {number}
model name\t: ARMv7 Processor rev 5 (v7l)
BogoMIPS\t: 38.40
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xc07
CPU revision\t: 5

"""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A Debian with its Python, on a processor.

    Attributes:
        name: of its folder.
        suite, architecture: Debian's.
        python: its minor version.
        qemu: what runs its programs.
        cpu: qemu's name of the processor.
        cpuinfo: what each core's entry of /proc/cpuinfo says.
        platforms: wheels' names of it, as pip takes them.
    """

    name: str
    suite: str
    architecture: str
    python: str
    qemu: str
    cpu: str
    cpuinfo: str
    platforms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Device:
    """A machine with engines.

    Attributes:
        name: of its folder and in reports.
        what: it stands for, in words.
        machine: None for this very machine, the reference.
        extras: of edgepatch, whose engines are tested.
        locks: files of locks/ with the wheels it gets.
        debian: packages it takes from Debian and not from wheels.
        like: the device it is compared with, by name.
    """

    name: str
    what: str
    machine: Machine | None
    extras: str
    locks: tuple[str, ...]
    debian: tuple[str, ...] = ()
    like: str = ""


_WHEELS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34")


def _platforms(architecture: str) -> tuple[str, ...]:
    return tuple(f"{each}_{architecture}" for each in _WHEELS)


PI4 = Machine(
    "bookworm-arm64", "bookworm", "arm64", "3.11", "qemu-aarch64", "cortex-a72", CORTEX_A72, _platforms("aarch64")
)
PI5 = Machine(
    "trixie-arm64", "trixie", "arm64", "3.13", "qemu-aarch64", "cortex-a76", CORTEX_A76, _platforms("aarch64")
)
PI2 = Machine("bookworm-armhf", "bookworm", "armhf", "3.11", "qemu-arm", "cortex-a7", CORTEX_A7, _platforms("armv7l"))

# of the machine that runs this; wheels' hashes are of this one
NATIVE_PYTHON, NATIVE = "3.11", "x86_64"

DEVICES = (
    Device("x86_64", "this machine", None, "litert,onnx", ("common", "numpy2", "litert-onnx")),
    Device("x86_64-tflite-runtime", "this machine", None, "tflite-runtime", ("common", "numpy1", "tflite-runtime")),
    Device(
        "aarch64", "Pi 4, bookworm", PI4, "litert,onnx", ("common", "numpy2", "litert-onnx"), like="x86_64"
    ),
    Device(
        "aarch64-tflite-runtime", "Pi 4, bookworm", PI4, "tflite-runtime", ("common", "numpy1", "tflite-runtime"),
        like="x86_64-tflite-runtime",
    ),
    Device(
        "aarch64-trixie", "Pi 5, trixie", PI5, "litert,onnx", ("common", "numpy2", "litert-onnx"), like="x86_64"
    ),
    Device(
        "armv7l", "Pi 2, bookworm, 32 bit", PI2, "tflite-runtime", ("common", "tflite-runtime"),
        debian=("python3-numpy", "python3-pil", "fonts-dejavu-core"), like="x86_64-tflite-runtime",
    ),
)  # fmt: skip
