"""The trained artefact of predicted quality, read from the package."""

from pathlib import Path
from typing import Final

from shared.learning.quality_model import QualityModel

PACKAGED: Final = Path(__file__).resolve().parent.parent / "learning" / "artefacts" / "quality-v2.npz"


def load_quality_model(path: Path = PACKAGED) -> QualityModel:
    """Read an artefact; about 0.2 s, once per process.

    Raises:
        OSError: the file cannot be read.
        ArtefactInvalid: it is no artefact of this format.
    """
    return QualityModel.from_bytes(path.read_bytes())
