"""Feedback: what is sensitive is taken out before it goes anywhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from shared.analysis.security import Scanner
from shared.domain.feedback import Feedback, FeedbackState
from shared.domain.policy import Policy
from shared.domain.security import Finding
from shared.ports import FeedbackStore, Telemetry


class FeedbackDesk:
    """Takes feedback in.

    Args:
        store: keeps it.
        policy: says what is sensitive beside the usual.
        telemetry: counts it.
    """

    def __init__(self, store: FeedbackStore, policy: Callable[[], Policy], telemetry: Telemetry) -> None:
        self._store = store
        self._policy = policy
        self._telemetry = telemetry

    async def give(self, feedback: Feedback) -> tuple[Feedback, FeedbackState]:
        """Keep feedback, without what is sensitive; returns it as it was kept.

        Raises:
            DependencyUnavailable: it was not kept, as far as can be known; giving it again is safe.
            NotFound: the request is another service's.
        """
        scanner = Scanner(self._policy().detection)
        kinds = set[str]()

        def clean(text: str) -> str:
            findings = scanner.scan(text, "comment", most=None)
            kinds.update(finding.kind for finding in findings)
            return without(text, findings)

        comment, tags = clean(feedback.comment), tuple(dict.fromkeys(clean(tag) for tag in feedback.tags))
        kept = replace(feedback, comment=comment, tags=tags, redacted=tuple(sorted(kinds)))
        state = await self._store.put(kept)
        self._telemetry.count("feedback", form=kept.form.value, state=state.value)
        return kept, state


def without(text: str, findings: Sequence[Finding]) -> str:
    """The text with the kind of each finding in its place, as in ``[email]``. Of findings that overlap one counts."""
    pieces, done = list[str](), 0
    for finding in sorted(findings, key=lambda one: (one.start, -one.end)):
        if finding.end <= done:
            continue
        pieces += [text[done : finding.start], f"[{finding.kind}]"]
        done = finding.end
    return "".join([*pieces, text[done:]])
