"""Which language a text is in: by its script, and among languages of one script by their commonest short words.

It abstains where it cannot tell: short texts, names, mixtures. No model, no download.
"""

from __future__ import annotations

import re
from functools import cache

from tunesmith.doctor.script import script

_WORDS = {
    "English": (
        "the of and to in is that it was for on are with as at be this have from or had by not but what all "
        "were we when your can said there an they which you he his her she i my me do how if so just like has "
        "been will would their a about into than then them only its over also after new any these us because "
        "could other more our who get go no want need why got out up some now don't i'm it's where two man "
        "woman one people very much"
    ),
    "German": (
        "der die das und ist nicht ein eine zu den mit sich auf für von im dem des auch es an werden aus er "
        "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber "
        "vor ich wir mein kein dann"
    ),
    "French": (
        "le la les de des du et est un une pas que qui dans pour sur au plus ne ce il sont avec se par je "
        "vous nous mais elle ou aux cette ces son sa ses été tout c'est l'on leur fait comme même y j'ai "
        "qu'il d'une n'est moi si"
    ),
    "Spanish": (
        "el la los las de y que en un una es no se por con para su del al lo como más pero sus le ya o fue "
        "este ha sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos mi "
        "yo eso ser está tiene"
    ),
    "Italian": (
        "il lo la gli le di e che è un una non per in con del della dei delle al alla si da sono come ma più "
        "anche ha nel nella questo questa mi ci io lui cosa perché quando se tutto ancora solo essere stato "
        "dal sul hanno molto"
    ),
    "Portuguese": (
        "o a os as de e que em um uma não se por com para do da dos das no na ao mais mas como foi ele ela "
        "isso você eu meu minha está são também muito já quando só seu sua ou ser tem até pelo pela nos "
        "depois bem vai pra tá"
    ),
    "Dutch": (
        "de het een en van is niet dat te op in zijn voor met die aan er maar om ook als dan bij nog uit wel "
        "naar heeft ik je hij ze we was hebben deze over door kan worden wordt geen meer heel mijn jij waar "
        "wat dit"
    ),
    "Swedish": (
        "och att det i en på är som av för den med till inte om ett har de jag så var men från vi kan han när "
        "hade skulle du nu över efter vid mycket bara eller ska sig vad blir min dig här"
    ),
    "Danish": (
        "og at det i en på er som af for den med til ikke om et har de jeg så var men fra vi kan han når "
        "ville du nu over efter ved meget kun eller skal sig hvad bliver min dig her mig hvor også"
    ),
    "Polish": (
        "i w na z się nie do to jest że o jak ale po co za od tak przez jego był dla już ma tym są czy może "
        "być które jej tylko oraz mnie ja ty go przed który kiedy bardzo też gdzie będzie"
    ),
    "Czech": (
        "a v na se je že to s z do o i ale jako za by po tak pro jsem co od které jeho jen když byl už si být "
        "má ve který nebo však bylo jsou není ještě také aby podle"
    ),
    "Turkish": (
        "ve bir bu da de için ile çok ne o gibi daha ama en olarak kadar sonra var ben mi olan değil her ki "
        "şey ya sen ise yok bana onun biz zaman diye bile nasıl"
    ),
    "Indonesian": (
        "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena bisa ada mereka "
        "lebih kami telah oleh sudah atau kita dia seperti aku kamu tapi bukan"
    ),
    "Finnish": (
        "ja on ei se että oli hän mutta ovat kun niin myös kuin jos tai vain ole mitä sen joka en nyt sitten "
        "voi olla tämä minä mukaan hänen ollut kanssa"
    ),
    "Hungarian": (
        "a az és hogy nem is egy meg de van volt ez csak már el ha mint még azt aki vagy lesz nagyon kell "
        "olyan minden ezt mert én ki most"
    ),
    "Romanian": (
        "și de a în la nu că o cu un pe este din pentru mai se ca ce sunt care am fost au dar cum acest după "
        "prin fi lui sau ei mă îmi foarte"
    ),
    "Vietnamese": (
        "và của là có không được cho một trong những với này người để các khi đã tôi về như cũng từ đến ra thì"
    ),
    "Hindi in Latin": (
        "hai ka ki ke ko se mein nahi aur ye bhi toh kya tha ho raha kar hain koi mera yeh bhai kuch wo tum "
        "main ne hi ek pe rahe hoga sab apne liye"
    ),
    "Russian": (
        "и в не на что я с он а как это по но к у из за от так же все вы мы то бы для было если уже или когда нет"
    ),
    "Ukrainian": ("і в не на що я з він а як це по але до у за від так та все ви ми то для було якщо вже або коли є"),
}
"""Language -> its commonest short words, in lower case."""
_BY_SCRIPT = {
    "Greek": "Greek", "Hebrew": "Hebrew", "Devanagari": "Hindi", "Bengali": "Bengali", "Tamil": "Tamil",
    "Telugu": "Telugu", "Thai": "Thai", "Georgian": "Georgian", "Hangul": "Korean", "Japanese": "Japanese",
    "Chinese": "Chinese", "Armenian": "Armenian",
}  # fmt: skip
_URDU, _PERSIAN, _ARABIC = "ٹڈڑںےہھ", "پچژگکی", "ةيكىإأؤ"
"""Letters that tell the languages of the Arabic script apart: Urdu has some that Persian has not, and both write k and
y with other letters than Arabic."""
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LINK = re.compile(r"https?\S*|www\.\S+|[@#]\w+")
_LOOK = 600
"""Characters that are looked at."""
_FEWEST = 3
"""Different short words that a language must be told by."""
_OWN = 2
"""Of them, words of two letters or more that no other language here has."""
_LEAD = 1.5
"""How many times as many points as the next language's."""


@cache
def _languages() -> dict[str, tuple[str, ...]]:
    """Word -> the languages that have it."""
    held: dict[str, list[str]] = {}
    for language, words in _WORDS.items():
        for word in words.split():
            held.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in held.items()}


def language(text: str) -> str:
    """The language's English name; nothing where it cannot be told."""
    found = script(text)
    if found in _BY_SCRIPT:
        return _BY_SCRIPT[found]
    if found == "Arabic":
        return _of_arabic_script(text[:_LOOK])
    tokens = _TOKEN.findall(_LINK.sub(" ", text[:_LOOK]).casefold())
    points: dict[str, float] = {}
    hits: dict[str, set[str]] = {}
    for token in tokens:
        held = _languages().get(token, ())
        for name in held:
            points[name] = points.get(name, 0.0) + 1 / len(held)  # a word of several languages says less of each
            hits.setdefault(name, set()).add(token)
    if not points:
        return ""
    best, *others = sorted(points, key=lambda name: -points[name])
    own = sum(len(_languages()[token]) == 1 and len(token) > 1 for token in hits[best])
    sure = len(hits[best]) >= _FEWEST and own >= _OWN and points[best] >= 0.1 * len(tokens)
    return best if sure and (not others or points[best] >= _LEAD * points[others[0]]) else ""


def _of_arabic_script(text: str) -> str:
    """Arabic glues its short words to others, so that letters tell it, not words: a few, and twice as many as those of
    the others."""
    urdu, persian, arabic = (sum(letter in letters for letter in text) for letters in (_URDU, _PERSIAN, _ARABIC))
    if urdu >= 2 and persian + urdu > 2 * arabic:
        return "Urdu"
    if persian >= 2 and persian > 2 * arabic:
        return "Persian" if not urdu else ""
    return "Arabic" if arabic >= 2 and arabic > 2 * (persian + urdu) else ""
