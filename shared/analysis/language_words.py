"""Common words and letters of languages in Latin script, by which a text's language is guessed. Data only."""

# ruff: noqa: RUF001  # the dotless i is a letter
from collections.abc import Mapping
from typing import Final

_WORDS: Final[Mapping[str, str]] = {
    "en": """the of and to in is that it for with this are be not have from what how write you your my can we i a an
        on at by as or if which who why when where was were will would should could do does did has had
        he she they them there their our us me one all any some than then so but about into out up no
        yes please give make tell get put need want here only each it's don't i'm what's thanks hello hi
        between after before over under because while these those its his her just more most many much
        other same two three ten first last""",
    "de": """der die das und ist nicht ein eine einen einem einer zu den dem des mit für auf wie von im sie es auch
        bitte ich was du wir ihr er mir mich dir dich wo wer wann warum welche welcher am um aus bei
        nach vor über unter oder aber wenn als dass kann kannst soll sollten hat habe haben sind war
        wird werden noch nur sehr mehr alle diese dieser diesen diesem kein keine zum zur gib mach ins
        heißt heute morgen hier alles ja nein doch schon mal man viel so in an hallo danke""",
    "fr": """le la les des est une un et que qui dans pour pas sur ce avec vous plus je du au cette de à il elle nous
        on ne se sa son ses mon ma mes ton te me en y par ou où mais si quand comment pourquoi quel
        quelle quels est-ce sont était être avoir ai as ont fait faire deux trois aux leur leurs ces
        tout tous toute bien très merci bonjour c qu d l j n s encore moi toi entre sans sous après
        avant dit cet voici peux""",
    "es": """el la los las es una un y que en por para con no se del lo como más este qué de a al su sus mi mis tu
        tus yo me te le nos esta esto estos estas ese esa o si pero cuando cómo dónde cuál quién cuándo
        cuánto cuánta porque son era ser estar está hay tiene hacer dos tres muy bien gracias hola
        buenas sobre entre sin hasta desde todo todos ya también solo cada ayer hoy mañana""",
    "it": """il lo gli è una un e che di per con non si della del sono come più questo nel alla la le i a da in su al
        dei delle dal dalla nella sul mi ti ci vi io tu lui lei noi questa questi queste quello quella o
        se ma quando dove perché chi cosa qual quale quanto quanti era essere avere ho hai ha hanno fare
        due tre molto bene grazie ciao anche tra fra senza dopo prima ogni tutto tutti poi va oggi ieri
        domani cos c""",
    "pt": """o a os as é uma um e que em por para com não se do da como mais este você são de no na nos nas ao aos à
        seu sua meu minha eu me te lhe isso isto esta esse essa ou mas quando onde qual quem quanto
        quantos porque foi era ser estar está há tem ter fazer dois três muito bem obrigado obrigada olá
        oi também entre sem até depois antes cada todo todos já sei hoje ontem amanhã tudo uns pelo pela
        num numa dos das""",
    "nl": """de het een en is van dat niet op te voor met zijn ook wat hoe deze aan naar ik je jij u we wij hij zij
        ze mij me mijn jouw ons onze er hier daar of maar als wanneer waar wie waarom welke dit die kun
        kan kunt moet hebben heeft heb had was worden wordt nog alleen meer alle geen uit bij om over
        onder tussen na tot door veel zo ja nee dank bedankt hallo hoi morgen vandaag gisteren""",
    "pl": """i w na nie się jest to że z do jak co po dla są tym oraz czy o od za ze przez ale lub jeśli kiedy gdzie
        kto dlaczego jaki jaka jakie ile był była było być mam masz ma mieć ja ty on ona my wy mi mnie
        ci ciebie go jej ich ten ta te tego tej już tylko bardzo dwa trzy który która które każdy
        wszystko proszę dziękuję cześć u przed bez pod nad między jutro dziś wczoraj""",
    "tr": """ve bir bu da de için ile ne mi mı mu mü çok daha en gibi ama veya ya ki var yok olan olarak ben sen biz
        siz onlar o şu nasıl neden niçin nerede kim hangi kaç ise değil her şey sonra önce kadar göre
        bana sana bize misin mısın lütfen merhaba selam teşekkürler evet hayır iki üç yaz yap yarın
        bugün dün kısa bunu nedir hakkında arasında aşağıdaki""",
}
LANGUAGES_BY_WORD: Final = {
    word: tuple(language for language, words in _WORDS.items() if word in words.split())
    for word in " ".join(_WORDS.values()).split()
}
"""The languages that have a word among their commonest."""
LETTERS: Final[Mapping[str, str]] = {
    "de": "äöüß",
    "fr": "çêèàœùûôîë",
    "es": "ñ¿¡áíóú",
    "it": "àèìòù",
    "pt": "ãõçâêôáé",
    "nl": "ëï",
    "pl": "łąęśżźćńó",
    "tr": "ğışçöü",
}
"""Letters that a language writes and English does not."""
