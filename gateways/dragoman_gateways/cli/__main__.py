"""``python -m dragoman_gateways.cli``: the command line without its script on ``PATH``."""

from __future__ import annotations

from dragoman_gateways.cli import main

if __name__ == "__main__":
    main()
