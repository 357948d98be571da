"""POST /feedback: what callers say of answers."""

from functions._edge import Call, Reply
from functions._wire.feedback import FeedbackBody, feedback_body
from functions._wire.parsing import parse
from shared.domain.feedback import FeedbackState

_ACCEPTED = 202


async def give(call: Call) -> Reply:
    """Keep feedback; 202 while the record of its request has not arrived."""
    said = parse(call.body, FeedbackBody).to_domain(call.caller, call.container.clock.now())
    kept, state = await call.container.insight.feedback.give(said)
    return Reply(feedback_body(kept, state), status=200 if state is FeedbackState.COUNTED else _ACCEPTED)
