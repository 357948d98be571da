"""Text Generation Inference: ``{"inputs", "parameters"}`` in, token events out.

Source: https://huggingface.co/docs/text-generation-inference/reference/api_reference and the server's own
``router/src/lib.rs``. The container's predict route must be TGI's ``/``, which streams when asked to. Plain calls are
streamed, too: only the end of a stream says how many tokens the prompt had.
"""

from typing import Any, Final

from shared.domain.chat import ChatRequest, FormatKind
from shared.domain.replies import Finished, FinishReason, StreamEvent, TextDelta, UsageUpdate
from shared.ports import ProviderCall
from shared.providers.endpoints_prompt import render
from shared.providers.errors import from_error_object, stream_cut, unreadable
from shared.providers.usage_estimate import estimated_usage, token_count

_FINISH_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
}
_ERROR_STATUS: Final = {"validation": 422, "overloaded": 529}
"""HTTP status for an error type; the others are the server's own failures. It says 429 for overloaded itself, but has
no quota that could be used up: 529 tells that apart."""


def tgi_body(call: ProviderCall, template: str) -> dict[str, Any]:
    """The request body; `template` names how turns become the prompt."""
    sampling = call.request.sampling
    parameters: dict[str, Any] = {
        "max_new_tokens": call.max_output_tokens,
        "return_full_text": False,
        "details": True,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop) or None,
        "grammar": _grammar(call.request),
    }
    if sampling.temperature == 0:
        parameters["do_sample"] = False  # the server refuses 0; without sampling parameters it is greedy
    else:
        # The server refuses top_p 1, which is its default.
        top_p = None if sampling.top_p == 1 else sampling.top_p
        parameters |= {"temperature": sampling.temperature, "top_p": top_p, "top_k": sampling.top_k}
    return {
        "inputs": render(call.request, template),
        "parameters": {key: value for key, value in parameters.items() if value is not None},
        "stream": True,
    }


class TgiReader:
    """Reads one answer; `shared.providers.wire_stream.ChunkReader`.

    Args:
        call: the attempt.
        vendor: how to call the vendor in errors.
    """

    def __init__(self, call: ProviderCall, vendor: str) -> None:
        self.vendor = vendor
        self.finished = False
        self._call = call
        self._stops = call.request.sampling.stop
        self._held = ""
        self._output_chars = 0

    def events_of(self, payload: Any) -> list[StreamEvent]:
        """The events of one token event.

        Raises:
            ProviderError: the payload reports a failure, or is none of the server's.
        """
        try:
            if "error" in payload:
                raise from_error_object(self._error_object(payload), vendor=self.vendor)
            token, details = payload["token"], payload.get("details")
            text = "" if token.get("special") else token["text"]
            return [*self._text(text, details), *self._end_of(details)]
        except (AttributeError, IndexError, KeyError, TypeError):
            raise unreadable(self.vendor, "an answer that is not of TGI's form") from None

    def end(self, *, declared: bool) -> list[StreamEvent]:
        """Nothing is owed: details bring the finish reason and the tokens together.

        Raises:
            ProviderUnavailable: the stream was cut.
            ProviderBadResponse: the server declared the end, but gave no details.
        """
        if not self.finished:
            raise unreadable(self.vendor, "an answer without details") if declared else stream_cut(self.vendor)
        return []

    def _text(self, text: str, details: dict[str, Any] | None) -> list[StreamEvent]:
        """TGI leaves the stop sequence in the text. What may become one is held until it is known."""
        text = self._held + text
        if details is None:
            kept = _possible_stop(text, self._stops)
            self._held = text[len(text) - kept :]
            text = text[: len(text) - kept]
        elif details["finish_reason"] == "stop_sequence":
            text = text.removesuffix(max((s for s in self._stops if text.endswith(s)), key=len, default=""))
        self._output_chars += len(text)
        return [TextDelta(text)] if text else []

    def _end_of(self, details: dict[str, Any] | None) -> list[StreamEvent]:
        if details is None or self.finished:
            return []
        self.finished = True
        native = details["finish_reason"]
        usage = estimated_usage(
            self._call,
            self._output_chars,
            input_tokens=token_count(details.get("input_length")),
            output_tokens=token_count(details.get("generated_tokens")),
        )
        return [UsageUpdate(usage), Finished(_FINISH_REASONS.get(native, FinishReason.STOP), str(native))]

    @staticmethod
    def _error_object(payload: dict[str, Any]) -> dict[str, Any]:
        kind = str(payload.get("error_type"))
        return {"code": _ERROR_STATUS.get(kind, 500), "status": kind, "message": payload["error"]}


def _possible_stop(text: str, stops: tuple[str, ...]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop sequence."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop), len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest


def _grammar(request: ChatRequest) -> dict[str, Any] | None:
    wanted = request.response_format
    if wanted.kind is FormatKind.TEXT:
        return None
    return {"type": "json", "value": wanted.schema or {"type": "object"}}
