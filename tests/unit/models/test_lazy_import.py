"""A provider's SDK is loaded when it is used, and not before."""

from __future__ import annotations

import os
import subprocess
import sys


def test_importing_the_models_does_not_import_an_sdk() -> None:
    program = (
        "import sys, dragoman_agents.models.discover, dragoman_agents.declared; "
        "sys.exit(any(name in sys.modules "
        "for name in ('anthropic', 'google.genai', 'httpx2', 'onnxruntime', 'openai')))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
