"""Signs that a text wants to take over the model that reads it: patterns and structure, with a strength and a place.

The classes are those of Greshake et al., "Not what you've signed up for" (2023), https://arxiv.org/abs/2302.12173, and
of OWASP's LLM01 (https://genai.owasp.org/llmrisk/llm01-prompt-injection/). Signs, no proof: who quotes an attack or
writes about attacks is told from who attacks by the words around, and scores low.
"""
# ruff: noqa: RUF001  # the unusual characters are what is looked for

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final

from shared.analysis.detectors.detector import Triggers, encodable, fast
from shared.analysis.detectors.disguises import DISGUISE_TRIGGERS, WRAPPED_TRIGGER, undisguised, unwrapped
from shared.domain.security import Finding, SecurityLevel


class Source(Flag):
    """Who wrote a text. What an operator writes is no attack; what a tool or a document says is no order."""

    USER = auto()
    TOOL = auto()
    """A tool's answer, an attached document, the description of a tool: read for the user, written by anybody."""


_ANY: Final = Source.USER | Source.TOOL
_TAKES_ORDERS_FROM_NOBODY: Final = 1.25
"""Orders in what a tool answered are stronger signs than the same words of a user."""


@dataclass(frozen=True, slots=True)
class _Sign:
    kind: str
    strength: float
    pattern: str
    sources: Source = _ANY


_MARKED: Final = (
    r"all|any|every|your|system|safety|previous|prior|preceding|above|earlier|initial|original"
    r"|existing|foregoing|current|content|developer'?s?"
)
_EARLIER: Final = (
    rf"(?:(?:the|of|my|these|those|us|me|that)[\s,]+){{0,3}}(?:(?:{_MARKED})[\s,]+)(?:(?:{_MARKED}"
    rf"|the|of|my|these|those|other|given)[\s,]+){{0,6}}"
)
"""Whose orders are meant: those from before, or all; "the instructions on page 3" are neither."""
_ORDERS: Final = (
    r"(?:instruct(?:ion)?s?|directions?|directives?|prompts?|rules?|guidelines?|polic(?:y|ies)"
    r"|commands?|constraints?|restrictions?|context"
    r"|messages?|guardrails?|programming|training|safeguards?)"
)
_HIDDEN: Final = (
    r"(?:(?:your|the|its|all|full|entire|complete|exact|original|initial|hidden|secret|internal"
    r"|above|developer|of|any|own)\s+){0,6}"
    r"(?:system\s+(?:prompt|message|instructions?)|(?:initial|hidden|secret|internal|original"
    r"|developer)\s+(?:prompts?|instructions?|rules|message)"
    r"|(?:your|above)\s+(?:prompt|instructions|guidelines|rules|directives)"
    r"|instructions\s+(?:you\s+were|above|given)|prompt\s+(?:above|verbatim))"
)

_SIGNS: Final = (
    # Instructions to set instructions aside.
    _Sign(
        "injection_override",
        0.75,
        rf"\b(?:ignore|disregard|forget|override|bypass|discard|set\s+aside|pay\s+no\s+attention\s+to"
        rf"|do\s+not\s+(?:follow|obey)"
        rf"|don'?t\s+(?:follow|obey)|stop\s+following|abandon)\s+{_EARLIER}{_ORDERS}",
    ),
    _Sign(
        "injection_override",
        0.75,
        r"\b(?:ignore|disregard|forget)\s+(?:everything|all(?:\s+of\s+(?:that|it))?|anything|what(?:ever)?)\s+"
        r"(?:(?:that\s+)?(?:was|you(?:'ve|\s+have|\s+were)?(?:\s+been)?|comes?"
        r"|is)\s+)?(?:\w+\s+)?(?:above|before|previously|prior|told|earlier|learned)",
    ),
    _Sign(
        "injection_override",
        0.7,
        r"\b(?:new|updated|revised|real|actual)\s+(?:system\s+)?(?:instructions?|directives?|task"
        r"|orders?)\s*(?:are|is|follow|begin|:)",
    ),
    _Sign(
        "injection_override",
        0.7,
        r"\byour\s+(?:previous|prior|old|earlier|original)\s+(?:instructions?|rules"
        r"|guidelines)\s+(?:are|no\s+longer|have\s+been|were|do\s+not)",
    ),
    _Sign(
        "injection_override",
        0.75,
        r"(?:ignorier\w*|vergiss|vergessen\s+sie|missachte\w*"
        r"|überschreibe?)\s+(?:\w+\s+){0,5}?(?:anweisung\w*|instruktion\w*|regeln|vorgaben|richtlinien"
        r"|befehle)"
        r"|(?:ignore[zs]?|oublie[zs]?|contourne[zs]?"
        r"|ne\s+tiens?\s+pas\s+compte\s+de)\s+(?:\S+\s+){0,5}?(?:instructions|consignes|règles"
        r"|directives)"
        r"|(?:ignora|olvida|omite|descarta|haz\s+caso\s+omiso\s+de)\s+(?:\S+\s+){0,5}?(?:instrucciones"
        r"|reglas|indicaciones|directrices|órdenes)"
        r"|(?:ignora|dimentica|trascura|scarta)\s+(?:\S+\s+){0,5}?(?:istruzioni|regole|direttive|indicazioni)"
        r"|(?:ignore|esqueça|esquece|desconsidere)\s+(?:\S+\s+){0,5}?(?:instruções|regras|diretrizes|orientações)"
        r"|(?:negeer|vergeet)\s+(?:\S+\s+){0,5}?(?:instructies|regels|aanwijzingen|richtlijnen)"
        r"|(?:zignoruj|ignoruj|zapomnij\s+o)\s+(?:\S+\s+){0,5}?(?:instrukcj\w*|polecen\w*|zasad\w*|wytyczn\S*)"
        r"|(?:игнорируй(?:те)?|забудь(?:те)?|проигнорируй(?:те)?)\s+(?:\S+\s+){0,5}?(?:инструкци\S*"
        r"|указани\S*|правил\S*)"
        r"|(?:önceki|yukarıdaki|tüm)\s+(?:\S+\s+){0,3}?(?:talimat\S*|kural\S*"
        r"|yönerge\S*)\s+(?:görmezden|yok\s+say|unut|dikkate\s+alma)"
        r"|(?:忽略|无视|忘记|忘掉|不要遵守)\S{0,10}(?:指令|指示|规则|提示|要求|命令)"
        r"|(?:以前|これまで|上記|前)の\S{0,6}(?:指示|命令|ルール|指令)\S{0,3}(?:無視|忘れ)"
        r"|(?:이전|위의|모든)\s*\S{0,6}\s*(?:지시|명령|규칙)\S{0,4}\s*(?:모두\s*|전부\s*)?(?:무시|잊)"
        r"|(?:تجاهل|انس)\s+(?:\S+\s+){0,4}?(?:التعليمات|الأوامر|القواعد)",
    ),
    # Forged turns and the markers of chat templates.
    _Sign(
        "injection_role",
        0.75,
        r"<\|(?:im_start|im_end|system|user|assistant|start_header_id|end_header_id|eot_id|endoftext"
        r"|end_of_turn|begin_of_text)\|>|\[/?INST\]|<</?SYS>>"
        r"|<(?:start|end)_of_turn>|\[/?SYSTEM_PROMPT\]",
    ),
    _Sign(
        "injection_role",
        0.75,
        r"(?m)^\s*(?:#{2,4}\s*|\*\*|<|\[|\{\{?)?(?:system|developer)\s?(?:prompt|message|instruction"
        r"|override|update)?(?:\*\*|>|\]|\}\}?)?\s*:\s*(?:you|ignore|new|from\s+now|all|the\s+(?:user"
        r"|assistant)|disregard|override|grant)",
    ),
    _Sign(
        "injection_role",
        0.75,
        r"</(?:system|instructions?|user_?input|document|context|user|prompt)>\s*(?:<(?:system"
        r"|instructions?|assistant|admin)>|\n+\s*(?:system|assistant|human|new\s+instructions?)\s*:)",
    ),
    _Sign("injection_role", 0.5, r"\n\n(?:Human|Assistant|System):\s"),
    _Sign(
        "injection_role",
        0.6,
        r"<(?:system|admin|developer|root)(?:[_-](?:prompt|message|override|instruction)s?)?>[^<]{4,}",
    ),
    # What is hidden is to be told, or carried off.
    _Sign(
        "injection_exfiltration",
        0.75,
        rf"\b(?:reveal|show|print|output|repeat|display|tell|give|disclose|leak|dump|expose|recite"
        rf"|share|write\s+(?:out|down)|list|return|echo|copy|translate|summari[sz]e|encode)"
        rf"\s+(?:(?:me|us|to|out|back|word|for|verbatim|exactly|everything|in|with|a|code|block"
        rf"|what)\s+){{0,5}}{_HIDDEN}",
    ),
    _Sign(
        "injection_exfiltration",
        0.7,
        r"\bwhat\s+(?:is|are|was|were|does)\s+(?:your|the)\s+(?:exact\s+|full\s+|original\s+"
        r"|initial\s+|hidden\s+|secret\s+)*(?:system\s+(?:prompt|message|instructions?)|(?:initial"
        r"|hidden|secret|original)\s+(?:prompt|instructions?))",
    ),
    _Sign(
        "injection_exfiltration",
        0.75,
        r"\b(?:repeat|print|output|write)\s+(?:\w+\s+){0,4}(?:everything|all(?:\s+(?:the"
        r"|of\s+the))?\s+(?:text|words)|the\s+(?:words|text|content))\s+(?:above|before\s+this"
        r"|from\s+the\s+(?:start|beginning|top)|starting\s+with)",
    ),
    _Sign(
        "injection_exfiltration",
        0.75,
        r"(?:zeig\w*|nenn\w*|gib|verrate\w*|wiederhol\w*)\s+(?:\S+\s+){0,5}?(?:system-?prompt\w*"
        r"|systemanweisung\w*|systemnachricht|geheimen?\s+anweisungen)"
        r"|(?:montre|affiche|révèle|répète|donne)\S*\s+(?:\S+\s+){0,5}?(?:prompt\s+système"
        r"|instructions\s+(?:système|initiales|secrètes|cachées))"
        r"|(?:muestra|muéstrame|revela|repite|dime|imprime)\s+(?:\S+\s+){0,5}?(?:prompt\s+(?:de"
        r"|del)\s+sistema|instrucciones\s+(?:del\s+sistema|iniciales|secretas|ocultas))"
        r"|(?:mostra\w*|rivela\w*|ripeti|stampa)\s+(?:\S+\s+){0,5}?(?:prompt\s+di\s+sistema"
        r"|istruzioni\s+(?:di\s+sistema|iniziali|segrete|nascoste))"
        r"|(?:toon|onthul|herhaal|geef)\s+(?:\S+\s+){0,5}?(?:systeemprompt|systeeminstructies|geheime\s+instructies)"
        r"|(?:покажи|раскрой|повтори|выведи)\s+(?:\S+\s+){0,5}?(?:системн\S+\s+(?:промпт|инструкци\S*"
        r"|сообщение)|скрыты\S+\s+инструкци\S*)"
        r"|(?:显示|告诉我|输出|重复|泄露|打印)\S{0,10}(?:系统提示|系统指令|初始指令|提示词)"
        r"|(?:システムプロンプト|初期指示)\S{0,4}(?:表示|教え|出力|見せ)",
    ),
    _Sign(
        "injection_exfiltration",
        0.8,
        r"!\[[^\]]{0,80}\]\(https?://[^)\s]{1,200}[?&/=](?:[^)\s]{0,80})(?:\{|\$|%7B|<"
        r"|\[)[^)]{0,120}\)",
    ),
    _Sign(
        "injection_exfiltration",
        0.7,
        r"\b(?:send|post|upload|forward|exfiltrate|transmit|e-?mail|submit"
        r"|leak)\s+(?:\S+\s+){0,8}?(?:conversation|chat\s+history|messages|passwords?|api\s+keys?"
        r"|secrets?|credentials|tokens?|system\s+prompt|environment\s+variables|user'?s?\s+data"
        r"|contents?\s+of)\s+(?:\S+\s+){0,5}?(?:to|at|via)\s+(?:https?://|\S+@\S+|this\s+(?:url"
        r"|address|server))",
        Source.TOOL,
    ),
    # Personas without rules.
    _Sign(
        "jailbreak",
        0.8,
        r"\bdo\s+anything\s+now\b|\byou\s+are\s+(?:now\s+|going\s+to\s+(?:be"
        r"|act\s+as)\s+)?(?:an?\s+)?(?:DAN|STAN|DUDE|AIM|evil[- ]?(?:bot|gpt|confidant)|jailbroken"
        r"|unrestricted|unfiltered|uncensored)\b",
    ),
    _Sign(
        "jailbreak",
        0.75,
        r"\b(?:developer|god|debug|dan|jailbreak|admin|sudo|unrestricted"
        r"|maintenance)\s+mode\s+(?:is\s+)?(?:now\s+)?(?:enabled?|on|activated?|unlocked|engaged)"
        r"|\b(?:enable|activate|enter|switch\s+to)\s+(?:developer|god|dan|jailbreak|sudo|unrestricted"
        r"|unfiltered)\s+mode",
    ),
    _Sign(
        "jailbreak",
        0.75,
        r"\b(?:pretend|act|behave|respond|answer|roleplay|imagine|simulate"
        r"|speak)\s+(?:\S+\s+){0,8}?(?:no|without(?:\s+any)?|free\s+(?:of|from)(?:\s+all)?"
        r"|not\s+bound\s+by(?:\s+any)?)\s+(?:\w+\s+){0,2}(?:restrictions?|rules|filters?|guidelines"
        r"|limits|limitations|ethics|ethical\s+\w+|moral\w*|censorship|safety\s+\w+"
        r"|content\s+polic(?:y|ies))",
    ),
    _Sign(
        "jailbreak",
        0.7,
        r"\byou\s+(?:have|are\s+(?:freed\s+from|no\s+longer\s+(?:bound|restricted"
        r"|limited)\s+by))\s+(?:no|all|any|your|the|\s)*\s*(?:restrictions|limitations"
        r"|ethical\s+guidelines|content\s+polic(?:y|ies)|filters|openai'?s?\s+\w+)",
    ),
    _Sign(
        "jailbreak",
        0.6,
        r"\bstay\s+in\s+character\b.{0,80}\b(?:never\s+refuse|no\s+warnings|cannot\s+refuse)"
        r"|\b(?:never|must\s+not|cannot|can'?t|don'?t)\s+(?:ever\s+)?(?:refuse|say\s+(?:you\s+can'?t"
        r"|no|\"?i'?m\s+sorry)|decline)\b.{0,60}\b(?:request|answer|question|no\s+matter|rules?)"
        r"|\bstart\s+your\s+(?:answer|response|reply)\s+with\s+[\"'“]?(?:sure|absolutely"
        r"|yes,?\s+(?:of\s+course|i))",
    ),
    _Sign(
        "jailbreak",
        0.75,
        r"du\s+bist\s+(?:jetzt|nun|ab\s+sofort)\s+(?:\S+\s+){0,4}?(?:ohne\s+(?:regeln|einschränkungen"
        r"|filter)|DAN)|tu\s+es\s+(?:désormais"
        r"|maintenant)\s+(?:\S+\s+){0,4}?sans\s+(?:\S+\s+)?(?:restrictions?|règles|filtres?|limites?)"
        r"|(?:eres|actúa|responde)\s+(?:\S+\s+){0,6}?sin\s+(?:\S+\s+)?(?:restricciones|reglas|filtros"
        r"|límites|censura)|(?:sei|agisci"
        r"|rispondi)\s+(?:\S+\s+){0,6}?senza\s+(?:\S+\s+)?(?:restrizioni|regole|filtri|limiti|censura)"
        r"|(?:没有任何|不受)\S{0,6}(?:限制|约束)\S{0,6}(?:回答|AI|助手|扮演)",
    ),
    # Payloads to be unpacked.
    _Sign(
        "injection_encoded",
        0.7,
        r"\b(?:decode|decrypt|unscramble|rot-?13|base-?64|hex|reverse|morse)\b[^.\n]{0,80}\b(?:and"
        r"|then)\s+(?:then\s+)?(?:follow|execute|obey|do|perform|carry\s+out|act\s+on|run"
        r"|comply)\b[^.\n]{0,40}\b(?:it|them|instructions?|what|that|commands?|says|result)",
    ),
    # Orders in what was to be read only.
    _Sign(
        "injection_tool",
        0.8,
        r"\b(?:do\s+not|don'?t|never|without)\s+(?:tell(?:ing)?|inform(?:ing)?|mention(?:ing)?"
        r"|alert(?:ing)?|notify(?:ing)?|reveal(?:ing)?|disclos(?:e|ing)"
        r"|show(?:ing)?)\s+(?:\w+\s+){0,4}?(?:the\s+)?(?:user|customer|human|operator)\b",
        Source.TOOL,
    ),
    _Sign(
        "injection_tool",
        0.75,
        r"\b(?:attention|important|note|notice|hey|dear|message|instructions?)\b[\s:,!-]{0,4}(?:to"
        r"|for)?\s*(?:the\s+|any\s+|all\s+)?(?:ai|llm|language\s+model|assistant|chatbot|agent|model"
        r"|copilot)s?\b[^.\n]{0,60}[:,—-]?\s*(?:you\s+)?(?:must|should|please|need\s+to|now"
        r"|are\s+(?:required|instructed)|will|always|call|send|ignore|include|reply|transfer|forward"
        r"|use)",
        Source.TOOL,
    ),
    _Sign(
        "injection_tool",
        0.7,
        r"<(?:important|system|instructions?|secret|hidden|admin)>|<!--[^>]{0,200}\b(?:assistant|ai"
        r"|llm|model|instructions?|ignore|you\s+must)\b[^>]{0,400}-->"
        r"|display:\s*none[^<]{0,200}\b(?:ignore|assistant|instructions?)",
        Source.TOOL,
    ),
    _Sign(
        "injection_tool",
        0.7,
        r"\b(?:before|instead\s+of|after|when)\s+(?:\w+\s+){0,3}?(?:using|calling|answering|responding"
        r"|replying|summari[sz]ing|this\s+tool|proceeding|continuing|doing"
        r"|completing)\b[^.\n]{0,60}\b(?:you\s+(?:must|should|need\s+to)|first|always"
        r"|please)\s+(?:\w+\s+){0,2}?(?:call|read|send|run|execute|open|fetch|transfer|e-?mail|delete"
        r"|invoke|pass|include|forward|visit)",
        Source.TOOL,
    ),
    _Sign(
        "injection_tool",
        0.6,
        r"(?m)^\s*(?:(?:ai|the)\s+)?(?:assistant|ai|agent|model|llm)\s*[:,]\s*(?:please\s+"
        r"|you\s+(?:must|should|need\s+to|have\s+to)\s+)?(?:call|send|run|execute|transfer|delete"
        r"|forward|open|visit|ignore|reply|include|use\s+the)",
        Source.TOOL,
    ),
)

_CHECKS: Final = tuple(fast(sign.pattern) for sign in _SIGNS)
_TRIGGERS: Final = Triggers([*((sign.pattern,) for sign in _SIGNS), DISGUISE_TRIGGERS, (WRAPPED_TRIGGER,)])
_DISGUISED: Final = len(_SIGNS)

_ABOUT: Final = re.compile(
    r"\b(?:prompt[- ]?injections?|jail-?break(?:s|ing|ers?)?|injection attacks?|attack(?:s|er"
    r"|ers)?|adversarial|malicious|red[- ]?team\w*+|vulnerab\w++"
    r"|owasp|phrases?|examples?|e\.g\.|for instance|such as|detect(?:s|or|ion|ing)?|classif(?:y"
    r"|ier)\w*+|filters?(?= that| for| catch)|blocks?(?= (?:messages|requests|prompts|phrases"
    r"|attempts|it|them|such|this|the))|is blocked|patterns?"
    r"|regex|regular expression|unit tests?|test cases?|what does|what is meant|explain|meaning of"
    r"|the (?:words?|sentence|string|text|term)|paper|article"
    r"|attempts?|tr(?:y|ies|ied) to|users? (?:who|say|type|write|tell)|someone|defend\w*+"
    r"|mitigat\w++|prevent\w*+|protect\w*+|guard against|translate"
    r"|beispiel\w*+|angriff\w*+|erkläre?|exemple|attaque|ejemplo|ataque|esempio|attacco|voorbeeld|aanval)\b",
    re.IGNORECASE,
)
_QUOTES: Final = "\"'“”„‟«»‹›‘’`「」"
_AROUND_CHARS: Final = 160
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s)|\n|[。！？]")
_TALK: Final = 0.4
_QUOTED: Final = 0.5


def signals(text: str, location: str, source: Source) -> list[Finding]:
    """Signs of an attack in one text, the strongest of each kind; `confidence` is the strength."""
    if not text:
        return []
    text = encodable(text)
    fired = _TRIGGERS.fired(text)
    best: dict[str, Finding] = {}
    for finding in _found(text, location, source, fired):
        known = best.get(finding.kind)
        if known is None or finding.confidence > known.confidence:
            best[finding.kind] = finding
    return list(best.values())


def _found(text: str, location: str, source: Source, fired: list[int]) -> Iterator[Finding]:
    for kind, start, end, strength in _plain(text, source, fired):
        yield Finding(kind, SecurityLevel.PUBLIC, location, start, end, strength)
    if _DISGUISED in fired and (view := undisguised(text)) is not None:
        for kind, start, end, strength in _plain(view.text, source, _TRIGGERS.fired(view.text)):
            begin, stop = view.span(start, end)
            yield Finding(kind, SecurityLevel.PUBLIC, location, begin, stop, strength)
    if fired and fired[-1] > _DISGUISED:
        for start, end, content in unwrapped(text):
            inside = [strength for _, _, _, strength in _plain(content, source, _TRIGGERS.fired(content))]
            if inside:
                yield Finding("injection_encoded", SecurityLevel.PUBLIC, location, start, end, max(0.85, *inside))


def _plain(text: str, source: Source, fired: list[int]) -> Iterator[tuple[str, int, int, float]]:
    for place in fired:
        if place >= _DISGUISED or not _SIGNS[place].sources & source:
            continue
        sign = _SIGNS[place]
        for match in _CHECKS[place].finditer(text):
            start, end = match.start(), match.end()
            yield sign.kind, start, end, round(_strength(sign, text, start, end, source), 3)


def _strength(sign: _Sign, text: str, start: int, end: int, source: Source) -> float:
    """The sign's strength where it stands."""
    if source is Source.TOOL:
        return min(0.95, sign.strength * _TAKES_ORDERS_FROM_NOBODY)
    strength = sign.strength
    if _is_quoted(text, start, end):
        strength *= _QUOTED
    # Only within the sentence: a harmless one before the attack excuses nothing.
    before = _SENTENCE_END.split(text[max(0, start - _AROUND_CHARS) : start])[-1]
    after = _SENTENCE_END.split(text[end : end + _AROUND_CHARS], maxsplit=1)[0]
    if _ABOUT.search(f"{before} \0 {after}"):
        strength *= _TALK
    return strength


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether the place lies between quotation marks of its own line."""
    before = text[max(0, start - 24) : start].rpartition("\n")[2]
    after = text[end : end + 80].partition("\n")[0]
    return any(mark in before for mark in _QUOTES) and any(mark in after for mark in _QUOTES)
