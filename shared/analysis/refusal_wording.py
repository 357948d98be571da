"""Answers that begin as refusals do, in the languages that models refuse in most. Pure; microseconds.

Measured on labelled answers by ``tests/evals/test_refusal_gate.py``; docs/quality.md has the figures.
"""
# ruff: noqa: RUF001 - letters of other scripts that look like Latin ones are what is looked for

import re
from typing import NamedTuple

REACH_CHARS = 200
"""A refusal is said at the beginning; later the same words are part of an answer."""


class Wording(NamedTuple):
    """How one language refuses. Patterns; a refusal is an apology and soon after it `unable`, or `unable` and an act.

    Attributes:
        sorry: words of apology or regret.
        unable: that something cannot or will not be done.
        acts: what a model cannot do; such a word within `between` after `unable` makes a refusal without an apology.
        between: what may stand between the two.
    """

    sorry: str
    unable: str
    acts: str
    between: str = r"\W{1,8}+(?:\w{1,40}+\W{1,8}+){0,4}?"


_ENGLISH = Wording(
    sorry=r"(?:i['’]?m |i am |we['’]re |we are )?(?:really |very |so |truly )?(?:sorry|afraid)\b|i apologi[sz]e\b"
    r"|as an ai\b|unfortunately\b|regrettably\b",
    unable=r"\b(?:i|we) (?:can(?:['’]t|not| not)|won['’]t|will not|do(?:n['’]t| not) (?:have|feel)"
    r"|(?:have to|must|need to) (?:\w{1,40}+ )?decline)|\b(?:un|not )able to|\bnot (?:permitted|allowed|comfortable)",
    acts=r"(?:help|assist|answer|provide|comply|fulfil+|do|discuss|share|create|write|generate|support|offer|engage"
    r"|continue|participate|process|respond|produce|facilitate|open|browse|access)\b",
    between=r"\W{1,8}+(?:be able to )?(?:\w{1,40}+ (?:to|with) )?",
)
_WORDINGS = (
    Wording(  # German
        sorry=r"(?:es )?tut mir (?:sehr |wirklich )?leid\b|leider\b|entschuldigung\b|ich bedau(?:e?re)\b",
        unable=r"\b(?:kann|darf|werde|möchte) ich\b[^.\n]{0,60}?\b(?:nicht|kein\w*+)|\bich (?:kann|darf|werde|möchte)\b"
        r"[^.\n]{0,60}?\b(?:nicht|kein\w*+)|nicht möglich",
        acts=r"(?:helfen|weiterhelfen|beantworten|unterstützen|erfüllen|erstellen|teilen|nachkommen|schreiben|geben"
        r"|behilflich|liefern)\b",
    ),
    Wording(  # French
        sorry=r"(?:je suis |nous sommes )?(?:vraiment |sincèrement )?(?:désolée?s?|navrée?s?)\b|malheureusement\b"
        r"|je (?:regrette|m['’]excuse)\b",
        unable=r"\b(?:ne|n['’]) ?(?:peux|puis|pouvons|suis|me sens|ai)\b(?: malheureusement)? ?pas"
        r"|\bne (?:peux|puis)\b",
        acts=r"(?:aider|répondre|fournir|créer|générer|partager|donner|traiter|assister|écrire|accéder)\b",
        between=r"\W{1,8}+(?:[\w’']{1,40}+\W{1,8}+){0,5}?(?:[tlvd]['’])?",
    ),
    Wording(  # Spanish
        sorry=r"lo (?:siento|lamento)\b|lamento\b|disculp\w++|perdón\b|lamentablemente\b|me temo\b",
        unable=r"\bno (?:puedo|podemos|podré|me es posible|estoy (?:autorizad|en condiciones|capacitad)\w*+)",
        acts=r"(?:ayudar|responder|proporcionar|generar|crear|compartir|cumplir|ofrecer|asistir|escribir|dar|brindar)\w*+",
    ),
    Wording(  # Italian
        sorry=r"mi (?:dispiace|spiace|scuso)\b|sono spiacente\b|purtroppo\b|spiacente\b",
        unable=r"\bnon (?:posso|sono in grado|mi è possibile|sono autorizzat\w)",
        acts=r"(?:aiutar|risponder|fornir|generar|crear|condivider|soddisfar|scriver|assister|dar)\w*+",
    ),
    Wording(  # Portuguese
        sorry=r"(?:me )?desculp\w++|lament\w++|sinto muito\b|peço desculpas?\b|infelizmente\b",
        unable=r"\bnão (?:posso|consigo|podemos|é possível|sou capaz|estou autorizad\w)",
        acts=r"(?:ajud|respond|fornec|ger|cri|compartilh|partilh|atend|escrev|oferec|auxili)[aei]r\w*+",
    ),
    Wording(  # Dutch
        sorry=r"(?:het )?spijt me\b|sorry\b|helaas\b|mijn excuses\b",
        unable=r"\b(?:kan|mag|wil|zal) ik\b[^.\n]{0,60}?\b(?:niet|geen)"
        r"|\bik (?:kan|mag|wil|zal)\b[^.\n]{0,60}?\b(?:niet|geen)",
        acts=r"(?:helpen|beantwoorden|geven|maken|schrijven|delen|verstrekken|voldoen)\b",
    ),
    Wording(  # Polish
        sorry=r"(?:bardzo )?(?:mi )?przykro\b|przepraszam\b|niestety\b",
        unable=r"\bnie (?:mogę|jestem w stanie|możemy)",
        acts=r"(?:pomóc|odpowiedzieć|udzielić|spełnić|stworzyć|podać|napisać|udostępnić|pomagać)\b",
    ),
    Wording(  # Turkish
        sorry=r"üzgünüm\b|maalesef\b|özür dilerim\b",
        unable=r"\w{1,24}(?:amam|emem|amıyorum|emiyorum|amayacağım|emeyeceğim)\b",
        acts=r"(?!)",
    ),
    Wording(  # Russian
        sorry=r"к сожалению\b|извини(?:те)?\b|прости(?:те)?\b|мне (?:очень )?жаль\b|прошу прощения\b",
        unable=r"\bне (?:могу|можем|смогу|в состоянии|буду)\b",
        acts=r"(?:помочь|помогать|ответить|предостав\w++|рассказать|выполнить|создать|написать|обсуждать|дать)\b",
    ),
    Wording(  # Japanese
        sorry=r"(?:大変)?申し訳(?:ありません|ございません)?|すみません|恐れ入りますが|残念ながら",
        unable=r"できません|できかねます|出来ません|致しかねます|いたしかねます|お答えでき|お応えでき|控えさせて",
        acts=r"(?!)",
    ),
    Wording(  # Chinese
        sorry=r"(?:非常|很|十分)?(?:抱歉|遗憾)|对不起|不好意思|很抱歉|對不起",
        unable=r"我?(?:无法|不能|不可以|無法)",
        acts=r"我?(?:提供|回答|帮助|协助|满足|生成|完成|讨论|幫助|協助)",
        between=r"(?:为您|给您|为你|给你|就此)?",
    ),
    Wording(  # Korean
        sorry=r"(?:정말 |대단히 )?(?:죄송|미안|유감)\w*+",
        unable=r"수 없|못 ?합니다|못해요|어렵습니다|불가능",
        acts=r"(?!)",
    ),
    Wording(  # Arabic
        sorry=r"عذر[اً]{1,3}+|آسف\w*+|أنا آسف\w*+|أعتذر\w*+|للأسف|يؤسفني",
        unable=r"(?:لا|لن) (?:أستطيع|يمكنني|يمكن|أقدر)",
        acts=r"(?:مساعد|تقديم|الإجابة|إنشاء|كتابة|المساعدة)\w*+",
    ),
)


_BEFORE = r"(?:[\w’']{1,40}+ ){0,3}?"
"""What may stand before `unable`: a subject, or what is asked for."""


def _pattern(wording: Wording, reach: int) -> str:
    sorry, unable, acts, between = wording
    return rf"(?:{sorry})[^\n]{{0,{reach}}}?(?:{unable})|{_BEFORE}(?:{unable}){between}(?:{acts})"


_PLAIN = r"(?:unfortunately|regrettably|no|but|however|thanks? for asking)?[, ]{0,2}"
_DECLINED = (
    r"i (?:must|have to|need to) (?:politely |respectfully )?decline\b"
    r"|this (?:request|content) (?:violates|goes against)"
)
_REFUSAL = re.compile(
    rf"\W{{0,8}}(?:{_PLAIN}(?:{_pattern(_ENGLISH, 70)}|{_DECLINED})|{'|'.join(_pattern(w, 60) for w in _WORDINGS)})",
    re.IGNORECASE,
)
_NEEDED = (
    "not", "n't", "n’t", "unable", "decline", "violates", "goes against", "nicht", "kein", "pas", "peux", "puis", "no ",
    "non ", "não ", "niet", "geen", "nie ", "üzgün", "maalesef", "özür", "не ", "せん", "かね", "お答え",
    "お応え", "控え", "无法", "不能", "不可以", "無法", "없", "못", "어렵", "불가능", "لا ", "لن ",
)  # fmt: skip
"""One of these is in every refusal, in small letters; to look for them costs a tenth of what the patterns cost."""


def is_refusal(text: str) -> bool:
    """Whether an answer begins as refusals do. Says nothing of answers that refuse further down, or in other words."""
    beginning = text[:REACH_CHARS].lstrip()
    small = beginning.lower()
    for word in _NEEDED:  # any() over a generator takes twice as long
        if word in small:
            return _REFUSAL.match(beginning) is not None
    return False
