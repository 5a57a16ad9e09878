"""A wrapped function needs no SDK, and no HTTP library, to have its failures understood."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(("httpx2", "openai", "anthropic", "google.genai")))

from dragoman_agents.wrapping.failures import explain


class Refused(Exception):
    status_code = 429


print(explain(Refused("slow down")).kind)
"""


def test_a_status_is_understood_where_no_http_library_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("rate_limited", "")
