"""Name the wheel after the oldest glibc that can load it (auditwheel); move the sdist beside it.

python release/repair.py FROM TO
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

# glibc of Debian 12 and Ubuntu 22.04 (2.35): what a wheel that is built on them may need.
NEWEST_GLIBC = (2, 35)
TAG = re.compile(r"-py3-none-manylinux_(\d+)_(\d+)_(x86_64|aarch64)")


def repair(source: Path, target: Path) -> Path:
    """Write the sdist and the renamed wheel to `target`; return the wheel.

    Raises:
        ValueError: The wheel does not run on any Python 3 and glibc 2.35.
    """
    (sdist,) = source.glob("*.tar.gz")
    (wheel,) = source.glob("*.whl")
    command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(target), str(wheel)]
    subprocess.run(command, check=True)
    (repaired,) = target.glob("*.whl")
    found = TAG.search(repaired.name)
    if found is None or (int(found[1]), int(found[2])) > NEWEST_GLIBC:
        raise ValueError(f"{repaired.name}: expected the tag py3-none-manylinux_2_35 or older")
    shutil.move(sdist, target / sdist.name)
    return repaired


if __name__ == "__main__":
    print(repair(Path(sys.argv[1]), Path(sys.argv[2])))
