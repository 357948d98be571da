"""What is told of a person: the date of birth, illnesses and what is taken for them.

Illnesses and dates are everywhere; they are sensitive where they are somebody's. So both need words that say whose.
"""
# ruff: noqa: RUF001  # the unusual characters are what is looked for

import re
from collections.abc import Iterator
from typing import Final

from shared.analysis.detectors.detector import Detector, Hit, at_anchors, fast, settled
from shared.domain.security import SecurityLevel

_CONFIDENTIAL: Final = SecurityLevel.CONFIDENTIAL

_MONTH_NAMES: Final = (
    "jan january januar januari janvier enero gennaio feb february februar februari fevr févr fevrier février febrero "
    "febbraio mar march mars mart maart märz marzo apr april aprile avril abril mai may maio mayo mei jun june juni "
    "juno junio juin giugno jul july juli julio juillet luglio aug august augustus aout août agosto sep sept september "
    "septembre septiembre settembre oct okt october oktober octobre octubre ottobre nov november novembre noviembre "
    "dec dez december dezember decembre décembre dicembre diciembre"
)
_MONTHS: Final = rf"(?>{'|'.join(sorted(_MONTH_NAMES.split(), key=len, reverse=True))})\.?+"
"""The longest first: an atomic group does not come back for a shorter one."""
_YEAR: Final = r"(?:19[1-9][0-9]|20[0-2][0-9])"
_BIRTH_DATE: Final = (
    rf"(?P<date>{_YEAR}[-./][0-9]{{1,2}}+[-./][0-9]{{1,2}}+"
    rf"|[0-9]{{1,2}}+[-./ ][0-9]{{1,2}}+[-./ ](?:{_YEAR}|[0-9]{{2}}\b)"
    rf"|[0-9]{{1,2}}+(?:st|nd|rd|th|\.|er)?+(?: of| de)?+ {_MONTHS},?+(?: de)?+ {_YEAR}"
    rf"|{_MONTHS} [0-9]{{1,2}}+(?:st|nd|rd|th)?+,?+ {_YEAR}"
    rf"|{_YEAR}年[0-9]{{1,2}}+月[0-9]{{1,2}}+日)"
)
_BIRTH: Final = re.compile(
    r"(?:\b(?:date[ _]?of[ _]?birth|birth[ _]?date|d\.?o\.?b\.?|birthday|geburtsdatum|geb\.|geb(?:oren)? am|geburtstag"
    r"|date de naissance|n[ée]e? le|fecha de nacimiento|nacid[oa] el|data di nascita|nat[oa] il"
    r"|geboortedatum|geboren op"
    r"|data de nascimento|nascid[oa] em|data urodzenia|urodzon[ya]|syntymäaika|födelsedatum|fødselsdato"
    r"|(?:i was|he was|she was|patient was|customer was|who was) born(?: on)?)|(?<=, )born(?: on)?"
    r"|, geboren|дата рождения|生年月日|出生日期)"
    r"[\"'’]?+(?:\s{0,3}+(?:is|ist|was|est|es|:|=|-|：)){0,2}+\s{0,3}+[\"'’(]?+" + _BIRTH_DATE,
    re.IGNORECASE,
)


_BIRTH_ANCHOR: Final = fast(
    r"\b(?:date[ _]?of[ _]?birth|birth[ _]?date|d\.?o\.?b\.?|birthday|geburtsdatum|geb\."
    r"|geb(?:oren)? am|geburtstag|date de naissance|fecha de"
    r"|nacid[oa]|data di|nat[oa] il|geboortedatum|geboren op|data de nascimento|nascid|data uro"
    r"|urodzon|i was|he was|she was"
    r"|patient was|customer was|who was|born)|n[ée]e? le|synt|födelsedatum|fødselsdato|, geboren"
    r"|дата рождения|生年月日|出生日期"
)


def _birth_dates(text: str) -> Iterator[Hit]:
    for match in at_anchors(_BIRTH_ANCHOR, _BIRTH, text):
        yield match.start("date"), match.end("date"), _CONFIDENTIAL, 0.9


_CONDITIONS: Final = (
    r"diabet\w*|cancer|carcinoma|lymphoma|leuk(?:a)?emia|melanoma|tumou?r|hiv|aids"
    r"|hepatitis(?: [abc])?|tuberculosis|syphilis"
    r"|chlamydia|gonorrh(?:o)?ea|herpes|epilepsy|parkinson'?s?|alzheimer'?s?|dementia"
    r"|multiple sclerosis|asthma|copd|emphysema"
    r"|depression|depressive disorder|bipolar(?: disorder)?|schizophrenia|psychosis"
    r"|anxiety disorder|ptsd|ocd|adhd|autism|anorexia"
    r"|bulimia|alcoholism|opioid (?:addiction|dependence|use disorder)|hypertension"
    r"|high blood pressure|heart (?:failure|attack|disease)"
    r"|atrial fibrillation|angina|stroke(?! of)|arthritis|lupus|crohn'?s?|ulcerative colitis"
    r"|coeliac|celiac disease|cirrhosis"
    r"|kidney (?:failure|disease)|endometriosis|miscarriage|abortion|pregnan(?:t|cy)|infertility"
    r"|sickle cell|cystic fibrosis|migraines?"
    r"|krebs|depression(?:en)?|bluthochdruck|schlaganfall|herzinfarkt|epilepsie|demenz"
    r"|schizophrenie|zuckerkrankheit|schwanger"
    r"|cancer du \w+|diabète|hypertension artérielle|dépression|épilepsie|enceinte|cáncer"
    r"|hipertensión|depresión|embarazada"
    r"|tumore|diabete|ipertensione|depressione|incinta|kanker|suikerziekte|zwanger|hoge bloeddruk"
)
_MEDICINES: Final = (
    r"metformin|insulin|ozempic|semaglutide|atorvastatin|simvastatin|lisinopril|ramipril"
    r"|amlodipine|losartan|metoprolol|bisoprolol"
    r"|warfarin|apixaban|rivaroxaban|clopidogrel|levothyroxine|omeprazole|pantoprazole|sertraline"
    r"|fluoxetine|prozac|zoloft|escitalopram"
    r"|citalopram|venlafaxine|duloxetine|mirtazapine|lithium|quetiapine|olanzapine|risperidone"
    r"|clozapine|aripiprazole|lamotrigine"
    r"|valproate|carbamazepine|levetiracetam|gabapentin|pregabalin|diazepam|lorazepam|alprazolam"
    r"|xanax|clonazepam|zolpidem"
    r"|methylphenidate|ritalin|adderall|oxycodone|morphine|fentanyl|tramadol|codeine|methadone"
    r"|buprenorphine|naltrexone|tamoxifen"
    r"|letrozole|methotrexate|adalimumab|humira|prednisone|prednisolone|hydroxychloroquine|truvada"
    r"|biktarvy|dolutegravir|tenofovir"
    r"|efavirenz|salbutamol|albuterol|chemotherapy|dialysis|antidepressants?|antipsychotics?"
)
_WHOSE: Final = (
    r"(?:\b(?:the|my|our|this) (?:patient|client|son|daughter|wife|husband|mother|father|mum|mom"
    r"|dad|brother|sister|child|partner"
    r"|employee|colleague|boss|neighbou?r|friend|grandmother|grandfather|insured)\b"
    r"|(?<!\ba )(?<!\beach )(?<!\bany )\bpatient\b(?! groups?| care| safety)|\bpt\b"
    r"|\b(?:mr|mrs|ms|miss|herr|frau|mme|m|sr|sra|dhr|mevr|sig)\b\.? [A-ZÀ-Þ]|\b(?:i|he|she)(?:'m"
    r"|'s|'ve)?\b|\bmy\b(?= (?:diagnosis|hiv|cancer))"
    r"|\b(?:mein|meine|seine|ihre|ich|er|sie|patientin|je|il|elle|mon|ma|mi|él|ella|yo|el paciente"
    r"|la paciente|mio|mia|lui|lei|ik|hij|zij"
    r"|de patiënt|le patient|la patiente|il paziente|la paziente|der patient|die patientin)\b)"
)
_HAS: Final = (
    r"(?:\b(?:ha(?:s|ve|d)(?: been)?|was|is|am|are|been|being)? ?(?:recently |just "
    r"|newly )?(?:diagnosed (?:with|as)|suffer(?:s|ing|ed)? from"
    r"|treated for|tested positive for|takes?|taking|prescribed|living with|lives with"
    r"|recovering from|hospitali[sz]ed (?:for|with)"
    r"|survived|started on|put on|positive for|admitted (?:for|with)|on (?:sick leave|medication) (?:for|because of)"
    r"|on [0-9]{1,5}+ ?mg (?:of )?|complains of|history of|dying of|died of)\b"
    r"|\b(?:i|he|she|patient|pt|son|daughter|wife|husband|mother|father|mum|mom|dad|brother|sister"
    r"|child|partner|employee|colleague|boss|friend)"
    r"(?: (?:has|have|had|is|was|am)|'s|'ve|'m)(?: (?:a|an|been|severe|mild|chronic|stage \w{1,8}+"
    r"|type [12]|advanced|terminal|currently|now|got"
    r"|just|hiv|on|\w{1,12}+ weeks)){0,3}(?= )"
    r"|\b(?:leidet an|diagnostiziert|wurde mit|nimmt|bekommt|erkrankt an|hat|habe|ist|bin"
    r"|souffre d|atteinte? d|prend|a un|est"
    r"|diagnosticad[oa]|padece|sufre|toma|tiene|está|soffre di|affett[oa] da|prende|ha|heeft"
    r"|lijdt aan|slikt|gebruikt|is)\b)"
)
_TERMS: Final = (
    r"\b(?P<term>(?:type [12] |stage (?:[1-4]|I{1,3}V?) |chronic |terminal )?"
    rf"(?:{settled(_CONDITIONS)}|{_MEDICINES}))\b"
)
_ILLNESSES: Final = _CONDITIONS.replace("(?! of)", "")
"""The same without look-ahead, for the first look."""
_ILLNESS_ANCHOR: Final = fast(rf"\b(?:type [12] |chronic |terminal )?(?:{_ILLNESSES}|{_MEDICINES})\b")
_TOLD_ILLNESS: Final = re.compile(_TERMS, re.IGNORECASE)
_VERB: Final = re.compile(_HAS, re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\bSr)(?<!\bFr)[.!?;](?=\s)|\n")
_SUPPOSED: Final = re.compile(
    r"\b(?:if|suppose|imagine|assum\w++|whether|unless|should an?|wenn|falls|angenommen|si|supposons|se|als|indien)\b",
    re.IGNORECASE,
)
"""Before somebody who is only thought of."""
_REACH: Final = 120
"""Characters before an illness in which its bearer must stand."""
_ICD: Final = re.compile(
    r"(?:\bICD(?:-?1[01])?(?:-?CM)?(?: code)?s?\b|\bdiagnos\w++\b|\bdx\b"
    r"|\bDiagnose\b)\s?[:=#-]?\s?(?:is "
    r"|was )?\(?(?P<code>[A-TV-Z][0-9][0-9AB](?:\.[0-9A-K]{1,4})?)(?![\w])",
    re.IGNORECASE,
)
"""A code of the International Classification of Diseases, tenth revision, where it is called one."""
_ICD_ANCHOR: Final = fast(r"\b(?:ICD|diagnos\w+\b|dx\b)[^\n]{0,24}[A-Z][0-9]")
_PERSON: Final = re.compile(_WHOSE, re.IGNORECASE)


_ANYBODY: Final = fast(
    r"\b(?:patient\w*|pt|mr|mrs|ms|miss|herr|frau|mme|m|sr|sra|dhr|mevr|sig|i|he|she|my|our|this"
    r"|the|meine?r?|seine|ihre|ich|er|sie"
    r"|je|il|elle|mon|ma|mi|ella|yo|paciente|mio|mia|lui|lei|ik|hij|zij|paziente)\b|él"
)
"""Without any of these nobody is spoken of."""


def _health(text: str) -> Iterator[Hit]:
    if _ANYBODY.search(text) is None:
        return
    for match in at_anchors(_ILLNESS_ANCHOR, _TOLD_ILLNESS, text):
        before = text[max(0, match.start() - _REACH) : match.start()]
        ends = [end.end() for end in _SENTENCE_END.finditer(before)]
        sentence = before[ends[-1] :] if ends else before
        whose = _PERSON.search(sentence)
        if whose is None or _SUPPOSED.search(sentence, 0, whose.start() + 1):
            continue
        if _VERB.search(sentence, max(0, whose.start() - 1)):
            yield match.start("term"), match.end("term"), _CONFIDENTIAL, 0.8
    for match in at_anchors(_ICD_ANCHOR, _ICD, text):
        if _PERSON.search(text, max(0, match.start() - _REACH), match.end() + _REACH):
            yield match.start("code"), match.end("code"), _CONFIDENTIAL, 0.8


PERSONS: Final = (
    Detector(
        "date_of_birth",
        (
            "birth", r"\bd\.?o\.?b\b", r"\bborn\b", "geb(?:oren|urt|\\.)", "naissance", r"n[ée]e? le", "nacimiento",
            "nacid", "nascita", r"nat[oa] il", "geboorte", "nasc", "urodz", "syntym", "födelse", "fødsel", "рождения",
            "生年月日", "出生日期",
        ),
        _birth_dates,
    ),
    Detector("health", (rf"\b(?:{_ILLNESSES})", rf"\b(?:{_MEDICINES})", r"\bicd", "diagnos", r"\bdx\b"), _health),
)  # fmt: skip
