"""Large contents beside the messages: stored once under their digest, streamed, verified."""

from dragoman_bus.artifacts.naming import ArtifactReference, artifact_part, reference_in
from dragoman_bus.artifacts.store import ArtifactStore

__all__ = ["ArtifactReference", "ArtifactStore", "artifact_part", "reference_in"]
