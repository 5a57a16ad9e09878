"""Loads a model file once in a process of its own, so that a bad file cannot end this one.

The native library aborts on some files instead of raising. A trial that dies costs nothing but a
sentence, and its log says what the library itself keeps silent about.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["try_to_load"]

LONGEST_LOAD_SECONDS = 600.0
SHOWN = 300

PROGRAM = """
import os, sys, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 64
parameters.n_parallel = 1
parameters.n_gpu_layers = 0
parameters.warmup = False
parameters.fit_params = False
parameters.n_threads_http = 1
parameters.api_keys = ["trial"]
parameters.verbosity = 1
try:
    server = xllamacpp.Server(parameters)
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(3)
# Ending a server that has just begun can block for ever; the verdict is known already.
os._exit(0)
"""

REASON = re.compile(r"(?:error loading model[^:]*: |GGML_ASSERT\()(.+)")


def try_to_load(path: str) -> None:
    """Load the model at ``path`` in a child process and end it again.

    Raises:
        NotConfigured: the native library refuses the file or dies of it, with its reason.
    """
    if not sys.executable:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, path],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_LOAD_SECONDS,
            check=False,
            # Without it a dying library spends seconds under a debugger.
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
    except subprocess.TimeoutExpired:
        raise NotConfigured(
            f"loading {path} took more than {LONGEST_LOAD_SECONDS:.0f} seconds"
        ) from None
    if done.returncode:
        raise NotConfigured(f"llama.cpp cannot load {path}: {_reason(done)}")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    found = REASON.search(done.stderr)
    if found:
        return found[1][:SHOWN]
    if done.returncode < 0:
        return f"it dies of it (signal {-done.returncode})"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:SHOWN] if lines else f"exit code {done.returncode}"
