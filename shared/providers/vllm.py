"""vLLM's Vertex server behind predict: one instance in, one string out; no streams, no token counts.

Source: the ``/generate`` route of Model Garden's vLLM container
(https://cloud.google.com/vertex-ai/generative-ai/docs/open-models/vllm/use-vllm). Numbers reach the server as doubles,
which it takes for all parameters but ``top_k`` and ``seed``. It reports no finish reason, so an answer that ended at
``max_tokens`` cannot be told from a whole one.
"""

from collections.abc import Sequence
from typing import Any

from shared.domain.replies import Finished, FinishReason, StreamEvent, TextDelta, UsageUpdate
from shared.ports import ProviderCall
from shared.providers.errors import unreadable
from shared.providers.usage_estimate import NOT_REPORTED, estimated_usage


def vllm_instance(call: ProviderCall, prompt: str) -> dict[str, Any]:
    """The one instance of the request; `prompt` is the rendered conversation."""
    sampling = call.request.sampling
    instance = {
        "prompt": prompt,
        "max_tokens": call.max_output_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop) or None,
        "raw_response": True,  # else the prompt comes back in front of the answer
    }
    return {key: value for key, value in instance.items() if value is not None}


def vllm_events(call: ProviderCall, prompt: str, predictions: Sequence[Any], vendor: str) -> list[StreamEvent]:
    """The events of the answer.

    Raises:
        ProviderBadResponse: there is no text in it.
    """
    text = predictions[0] if predictions else None
    if not isinstance(text, str):
        raise unreadable(vendor, "a prediction that is no text")
    # Containers that do not know raw_response answer in this form.
    text = text.removeprefix(f"Prompt:\n{prompt.strip()}\nOutput:\n")
    usage = UsageUpdate(estimated_usage(call, len(text)))
    return [TextDelta(text), usage, Finished(FinishReason.STOP, NOT_REPORTED)]
