"""The adapter for Gemini on Vertex AI (Google's Agent Platform): the same wire at another address.

It takes the credentials of this machine (Google's application default credentials) for a project,
or a key of the platform's express mode without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, structs

from dragoman_agents.models.gemini import Gemini, GeminiOptions
from dragoman_agents.models.log_guard import guard_logs
from dragoman_agents.models.providers import read_options
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import ModelSettings
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["VertexGemini", "VertexOptions"]

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9:.-]{0,127}$")]

REGIONS_TOGETHER = ("eu", "us")


class VertexOptions(GeminiOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of Gemini on Vertex AI.

    Attributes:
        project: The project that is billed; without it a key is needed.
        location: Where the model runs, as in ``europe-west4``; default: anywhere.
    """

    project: Name | None = None
    location: Name = "global"


class VertexGemini(Gemini):
    """A Gemini model in a Google Cloud project (a ``ModelAdapter``).

    Args:
        settings: Which model; ``base_url`` only for a proxy.
        environment: Where the key's variable is looked up; default: the process's own.

    Raises:
        NotConfigured: the package ``google-genai`` is missing, or both project and key.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._place = read_options(settings.options, VertexOptions)
        self._token: Secret | None = None
        if settings.base_url is None:
            settings = structs.replace(settings, base_url=_address(self._place))
        super().__init__(settings, environment=environment)

    def _read_options(self) -> GeminiOptions:
        return self._place

    def _make_client(self, key: Secret | None) -> Any:
        if key is not None:
            return self._sdk.Client(vertexai=True, api_key=key.reveal(), **self._client_options())
        if self._place.project is None:
            raise NotConfigured(
                "the provider gemini-vertex needs the project that is billed: write "
                'options = { project = "..." }, or api_key_env for the express mode'
            )
        from dragoman_agents.models.google_credentials import LateCredentials

        return self._sdk.Client(
            vertexai=True,
            project=self._place.project,
            location=self._place.location,
            credentials=LateCredentials(self._note_token),
            **self._client_options(),
        )

    def _generates(self, model: Any) -> bool:
        # The platform does not tell what each model is for.
        return "gemini" in str(model.name)

    def _note_token(self, value: str) -> None:
        self._token = Secret(value)
        guard_logs(self._token)

    def _redacted(self, text: str) -> str:
        text = super()._redacted(text)
        return text if self._token is None else self._token.redact(text)


def _address(place: VertexOptions) -> str:
    host = "aiplatform.googleapis.com"
    if place.project is not None and place.location in REGIONS_TOGETHER:
        host = f"aiplatform.{place.location}.rep.googleapis.com"
    elif place.project is not None and place.location != "global":
        host = f"{place.location}-{host}"
    return f"https://{host}/v1beta1"
