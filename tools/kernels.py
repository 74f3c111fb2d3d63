"""Run the tests with the kernels of other processors, on one thread and on two.

    python tools/kernels.py [arguments of pytest]

The same sum is rounded otherwise by another instruction set, and by more threads. A test that holds
here may fail elsewhere for that alone. This asks torch, MKL, oneDNN and OpenBLAS for the kernels of
older processors, prints a line for each setting, and exits with 1 if a test failed in one.

MKL heeds ``MKL_ENABLE_INSTRUCTIONS`` on Intel's processors only; ``MKL_CBWR`` chooses among its
kernels on others, too.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

NAMES = [
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
]
# Each with what torch calls the least processor that it runs on.
SETTINGS = {
    "native": (None, []),
    "avx512": ("AVX512", ["avx512", "AVX512_CORE", "SkylakeX", "AVX512", "AVX512"]),
    "avx2": ("AVX2", ["avx2", "AVX2", "Haswell", "AVX2", "AVX2"]),
    "sse4": ("DEFAULT", ["default", "SSE41", "Nehalem", "SSE4_2", "COMPATIBLE"]),
}
LEVELS = ["DEFAULT", "AVX2", "AVX512"]
THREADS = [1, 2]


def levels(environ: dict[str, str]) -> list[str]:
    """Return the levels that this processor has; none if it is of another family."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    asked = [sys.executable, "-c", code]
    found = subprocess.run(asked, env=environ, check=True, capture_output=True, text=True)
    name = found.stdout.strip()
    if platform.machine().lower() not in ("x86_64", "amd64") or name not in LEVELS:
        return []
    return LEVELS[: LEVELS.index(name) + 1]


def main(arguments: list[str]) -> int:
    """Run pytest once per setting and number of threads."""
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    able, failed = levels(plain), False
    for setting, (level, values) in SETTINGS.items():
        if level is not None and level not in able:
            print(f"{setting}: skipped, this processor cannot run it", flush=True)
            continue
        for threads in THREADS:
            number = {"OMP_NUM_THREADS": str(threads), "SKFAIRFT_TEST_THREADS": str(threads)}
            # Threads that wait take no time from the other processes.
            number["OMP_WAIT_POLICY"] = "PASSIVE"
            environ = plain | number | dict(zip(NAMES, values, strict=False))
            command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
            done = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
            lines = (done.stdout + done.stderr).strip().splitlines()
            print(f"{setting}, threads {threads}: {lines[-1].strip('= ')}", flush=True)
            if done.returncode:
                failed = True
                print(*(line for line in lines if line.startswith(("FAILED", "ERROR"))), sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
