"""What others do with these files: `python -m tests.attacks.elsewhere [FILE...]`.

Each is tried in a process of its own with 8 GiB of address space and 30 seconds. What comes of it is what README.md's
column `elsewhere` says; it depends on the versions installed, so no test asks for it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from . import SOUND, attacks, sound

SECONDS = 30
HEADER = (
    "import json, struct; data = open(FILE, 'rb').read(); n = struct.unpack_from('<Q', data)[0]; text = data[8:8+n]"
)
JSON = f"{HEADER}; found = json.loads(text); print('accepted', str(found)[:90].encode('unicode_escape'))"
SAFETENSORS = "import safetensors.numpy as s; print('accepted', sorted(s.load(open(FILE, 'rb').read()))[:6])"
PICKLE = """
import io, pickle, zipfile
data = zipfile.ZipFile(FILE).read("m/data.pkl")
class Unpickler(pickle.Unpickler):
    def persistent_load(self, pid): return pid
print("accepted", str(Unpickler(io.BytesIO(data)).load())[:60])
"""
COMPILED = """
from ai_edge_litert.compiled_model import CompiledModel
model = CompiledModel.from_file(FILE)
print("opened", list(model.get_signature_list()))
"""
INTERPRETER = """
from ai_edge_litert.interpreter import Interpreter
import numpy as np
def logits(path):
    interpreter = Interpreter(path, num_threads=1)
    run = interpreter.get_signature_runner("bind")
    return run(image=np.full((1, 32, 32, 3), 0.5, np.float32), **PATCH)["logits"]
print("answers", logits(FILE), "the sound one", logits("sound.tflite"))
"""
BIND = """
import safetensors.numpy as s, numpy as np
from ai_edge_litert.interpreter import Interpreter
patch = s.load(open(FILE, "rb").read())
interpreter = Interpreter("sound.tflite", num_threads=1)
run = interpreter.get_signature_runner("bind")
given = {name: patch[name].astype(np.float32) for name in run.get_input_details() if name != "image"}
print("answers", run(image=np.full((1, 32, 32, 3), 0.5, np.float32), **given)["logits"])
"""
ORT = """
import onnxruntime, numpy as np
def logits(path):
    options = onnxruntime.SessionOptions(); options.log_severity_level = 4
    session = onnxruntime.InferenceSession(open(path, "rb").read(), options)
    return session.run(None, {"image": np.full((1, 32, 32, 3), 0.5, np.float32), **PATCH})
open("secret", "wb").write(np.float32(1234.5).tobytes())
print("answers", logits(FILE), "the sound one", logits("sound.onnx"))
"""
HEAD = """
import numpy as np
from edgepatch import blob
from edgepatch import head_network
from edgepatch.runtime.formats import tflite_head
head_network.MAX_VALUES = 1 << 60
from edgepatch.head_network import Network
patch = blob.parse(open(FILE, "rb").read(), FILE)
network = Network.from_json(patch.decode["network"])
weights = {name: np.asarray(value, np.float32) for name, value in patch.tensors.items() if name.startswith("head/")}
model = tflite_head.model(network, weights, {"top": (1, 512, 512, 8)})
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_content=model.data); interpreter.allocate_tensors()
interpreter.invoke()
print("answers")
"""
NUMPY = "import numpy as np; print('accepted', {k: str(v)[:20] for k, v in np.load(FILE).items()})"
TRUSTING = NUMPY.replace("np.load(FILE)", "np.load(FILE, allow_pickle=True)")
ADAPTER = """
import onnxruntime as ort, numpy as np, safetensors.numpy as s
data = bytearray(open(FILE, "rb").read())
adapter = ort.AdapterFormat()
names = [each for each in ("scale", "bias", "head_kernel", "head_bias") if each in PATCH and (each != "bias" or BIAS)]
adapter.set_parameters({each: ort.OrtValue.ortvalue_from_numpy(PATCH[each]) for each in names})
adapter.export_adapter("a")
made = bytearray(open("a", "rb").read())
if FLIP:
    at = made.find(PATCH["scale"].tobytes()); made[at + 3] ^= 0x40
    open("a", "wb").write(made)
loaded = ort.LoraAdapter(); loaded.Load("a")
options = ort.RunOptions(); options.add_active_adapter(loaded)
session = ort.InferenceSession("sound.onnx")
print("answers", session.run(None, {"image": np.full((1, 32, 32, 3), 0.5, np.float32)}, options)[0])
"""
PATCH = """
import numpy as np, safetensors.numpy as s
PATCH = s.load(open("sound.epatch", "rb").read())
PATCH = {name: value.astype(np.float32) for name, value in PATCH.items() if name != "ranges"}
"""
MEASURED = """
import atexit
def measured():
    text = open("/proc/self/status").read()
    print("peak", int(text.split("VmHWM:")[1].split()[0]) // 1024, "MiB", flush=True)
atexit.register(measured)
"""

SAFE = "truncated trailing duplicate_key overlap hole backwards negative beyond f64 no_such_type extra_tensor"
PARSED = "duplicate_key nan_literal huge_number many_digits surrogate utf16 nested"
BOUND = "nan infinity out_of_range other_backbone"
OPENED = (
    "truncated flipped_weight stranger bake_shifted points_at_itself before_the_file endless_vector names_upon_names "
    "loop"
)
PICKLED = "command twice_itself huge_memo many_lists says_ten_bytes"
WHOLE, FLIPPED, PARTIAL = (
    f"FLIP, BIAS = {options}\n{ADAPTER}" for options in ("False, True", "True, True", "False, False")
)


def _each(names: str, suffix: str, **readers: str) -> dict[str, dict[str, str]]:
    return {f"{name}.{suffix}": readers for name in names.split()}


TRIALS = {
    **_each(SAFE, "epatch", safetensors=SAFETENSORS),
    **_each(PARSED, "epatch", json=JSON, safetensors=SAFETENSORS),
    **_each(BOUND, "epatch", safetensors=SAFETENSORS, litert=BIND),
    **_each("flipped_bit", "epatch", safetensors=SAFETENSORS, adapter=FLIPPED, sound_adapter=WHOLE),
    **_each("missing_tensor", "epatch", safetensors=SAFETENSORS, adapter=PARTIAL, sound_adapter=WHOLE),
    **_each("wide_head", "epatch", litert=HEAD),
    **_each(OPENED, "tflite", compiled=COMPILED, interpreter=INTERPRETER),
    **_each("truncated flipped_weight length_beyond endless_number other_file loop", "onnx", onnxruntime=ORT),
    **_each(PICKLED, "pth", pickle=PICKLE),
    **_each("says_100_values pickled bytes", "npz", numpy=NUMPY, allow_pickle=TRUSTING),
}


def outcome(code: str, path: Path) -> str:
    """What a process that runs this on a file ends with: its last line, or the signal that ended it."""
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)); FILE = {path.name!r}\n"
    given = PATCH if "PATCH" in code else ""
    call = [sys.executable, "-c", prelude + MEASURED + given + code]
    try:
        done = subprocess.run(
            call, cwd=path.parent, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} s"
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    said = " | ".join(done.stdout.strip().splitlines()[-5:])
    if done.returncode:
        lines = [
            line
            for line in done.stderr.splitlines()
            if re.match(r"[\w.]+(Error|Exception|File|Protobuf|Graph|Fail)\b", line)
        ]
        said = f"{(lines or ['?'])[-1]} | {said}"
    owned = ", and ran its command" if (path.parent / "owned").exists() else ""
    return said.strip(" |")[:300] + owned


def main() -> None:
    chosen = sys.argv[1:] or list(TRIALS)
    known = {attack.name: attack for attack in attacks()}
    for name in chosen:
        for reader, code in TRIALS[name].items():
            with tempfile.TemporaryDirectory() as folder:
                inner = Path(folder) / "inner"
                inner.mkdir()
                for each in SOUND:
                    (inner / each).write_bytes(sound(each))
                (inner / name).write_bytes(known[name].data)
                print(f"{name}: {reader}: {outcome(code, inner / name)}", flush=True)


if __name__ == "__main__":
    main()
