"""What administrators read of what happened, in one place for the container."""

from dataclasses import dataclass

from shared.services.business import Business
from shared.services.overview import Overview
from shared.services.slos import Slos


@dataclass(frozen=True, slots=True)
class Administration:
    """Objectives, pages of the dashboard, and what the router costs and saves."""

    slos: Slos
    overview: Overview
    business: Business
