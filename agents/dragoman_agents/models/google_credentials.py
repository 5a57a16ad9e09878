"""Google's application default credentials, looked for when they are first needed.

They come from the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names, from ``gcloud auth
application-default login``, or from the machine itself. Looking takes long where there are none, so
it is done in the thread in which the SDK renews tokens. Needs the package ``google-auth``, so only
the adapter imports this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import google.auth
from google.auth import credentials

__all__ = ["LateCredentials"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class LateCredentials(credentials.Credentials):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Credentials that find themselves on the first ``refresh``.

    Args:
        note: Told every new token, before it is used.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._note = note
        self._found: Any = None

    def refresh(self, request: Any) -> None:
        """Get a token that is valid now.

        Raises:
            GoogleAuthError: there are no credentials, they are refused, or nobody answers.
        """
        if self._found is None:
            self._found, _ = google.auth.default(scopes=[SCOPE])
        self._found.refresh(request)
        self._note(str(self._found.token))
        self.token, self.expiry = self._found.token, self._found.expiry
        self._quota_project_id = self._found.quota_project_id
