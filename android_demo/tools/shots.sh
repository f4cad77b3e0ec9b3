#!/bin/sh
# shots.sh [DEMO]: makes docs/*.png anew, from what `make demo` has left in a folder (build/demo); needs Pillow.
set -e
cd "$(dirname "$0")/.."
demo=$(cd "${1:-../build/demo}" && pwd)
tools/build.sh shots -Dshots="$PWD/docs" -Ddemo="$demo" -Dtest=ShotsTest -Dsurefire.failIfNoSpecifiedTests=false verify
"${PYTHON:-python3}" - docs/*.png <<'PYTHON'
import sys
from PIL import Image

for path in sys.argv[1:]:  # in 256 colours they take half the room
    image = Image.open(path).convert("RGB")
    image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
PYTHON
