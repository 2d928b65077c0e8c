"""Where plates are from: the codes an answer or a caller's hint may carry, and what plates say there.

A code is a country (ISO 3166-1 alpha-2, lower case) or, for countries whose states issue plates of their own
design, country and state (ISO 3166-2): ``gb``, ``us``, ``us-ca``, ``ca-on``, ``au-vic``, ``br-sp``.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_COUNTRIES = """
ad ae af ag ai al am ao ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cd cf
cg ch ci ck cl cm cn co cr cu cv cw cy cz de dj dk dm do dz ec ee eg er es et fi fj fk fm fo fr ga gb gd ge
gf gg gh gi gl gm gn gp gq gr gt gu gw gy hk hn hr ht hu id ie il im in iq ir is it je jm jo jp ke kg kh ki
km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu
mv mw mx my mz na nc ne ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pr ps pt pw py qa re ro rs ru rw
sa sb sc sd se sg sh si sk sl sm sn so sr ss st sv sx sy sz tc td tg th tj tk tl tm tn to tr tt tv tw tz ua
ug us uy uz va vc ve vg vi vn vu wf ws xk ye yt za zm zw
"""

_STATES = {
    "us": "al ak az ar ca co ct de dc fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh "
    "nj nm ny nc nd oh ok or pa ri sc sd tn tx ut vt va wa wv wi wy",
    "ca": "ab bc mb nb nl ns nt nu on pe qc sk yt",
    "au": "act nsw nt qld sa tas vic wa",
    "br": "ac al am ap ba ce df es go ma mg ms mt pa pb pe pi pr rj rn ro rr rs sc se sp to",
    "ge": "ab",
}

CODES = frozenset(_COUNTRIES.split()) | {
    f"{country}-{s}" for country, states in _STATES.items() for s in states.split()
}
"""Every code that an answer may carry and that a caller may give as a hint."""

# Series in use, `A` a letter, `9` a digit, by the authorities' public descriptions. Countries that are not
# listed (or where owners choose the text, as in the United States) say little by their texts.
_SERIES = {
    "gb": "AA99AAA A999AAA A99AAA A9AAA AAA999A AAA99A AAA9A AAA999 AAA9 999AAA 99AAA A9999 AA9999 AAA9999 "
    "9AAA",
    "ie": "99A9 99A99 99A999 99A9999 99A99999 99AA999 99AA9999 99AA99999 999A99 999A999 999A9999 999A99999 "
    "999AA999 999AA9999",
    "de": "AA9 AA99 AA999 AA9999 AAA9 AAA99 AAA999 AAA9999 AAAA9 AAAA99 AAAA999 AAAA9999 AAAAA9 AAAAA99 "
    "AAAAA999 AA999A AAA99A "
    "AAA999A AAAA99A AAAA999A",
    "fr": "AA999AA 9999AA99 999AAA99 99AAA99 999AA99 9999AAA99",
    "it": "AA999AA AA99999",
    "es": "9999AAA A9999AA AA9999A AA9999AA A9999A",
    "pt": "AA9999 9999AA 99AA99 AA99AA",
    "nl": "99AAAA 9AAA99 AA999A A999AA 99AAA9 AAAA99 9AA999 999AA9 AAA99A AA9999 9999AA AA99AA 99AA99",
    "be": "9AAA999 AAA999 999AAA",
    "lu": "AA9999 9999 99999",
    "ch": "AA99999 AA999999 AA9999 AA999 AA99",
    "at": "A99999A A9999A AA999AA AA99AA AA9999A A9999AA AA99999 AA999A A99999AA",
    "pl": "AA99999 AA9999A AA999AA AAA9999 AAAA999 AAA99AA AAA9A99 AAA99A9 AAA9AA9 AAA999A AA9A999 AA99A99",
    "cz": "9A99999 9AA9999 AAA9999 9A9999 9A9A999",
    "sk": "AA999AA",
    "hu": "AAA999 AAAA999",
    "ro": "AA99AAA A99AAA A999AAA",
    "bg": "AA9999AA A9999AA A9999A AA9999A",
    "gr": "AAA9999",
    "tr": "99A9999 99AA999 99AA9999 99AAA99 99AAA999 99A99999",
    "hr": "AA999AA AA9999A AA999A AA9999AA",
    "si": "AAAA999 AAA9999 AA99A99 AAA999 AAA9A99 AA999AA AAA99A9 AAA999A AA99AAA",
    "rs": "AA999AA AA9999AA AA99999",
    "me": "AAAA999",
    "ua": "AA9999AA",
    "ru": "A999AA99 A999AA999 A999AA",
    "by": "9999AA9 AA99999",
    "se": "AAA999 AAA99A",
    "no": "AA99999 AA9999",
    "dk": "AA99999",
    "fi": "AAA999 AA999",
    "is": "AA999 AAA99 AA999 AAA999",
    "ee": "999AAA",
    "lv": "AA9999 AA999 AA99",
    "lt": "AAA999",
    "mt": "AAA999",
    "cy": "AAA999",
    "md": "AAA999 AAAA999 AAA99",
    "az": "99AA999",
    "il": "9999999 99999999",
    "in": "AA99AA9999 AA99A9999 AA999999 AA9AA9999 AA9A9999 AA9A9A9999 AA9AAA9999 AA99AAA9999 AA9999 "
    "AA99AA999",
    "pk": "AA999 AA9999 AAA999 AAA9999 AAA99 AA99 AAA999A A9999 AAA9 AA9 AAA9999A",
    "cn": "A99999 AA9999 A9A999 A99A99 A999A9 A9999A A99AA9 AA999A AA99999 A99999A AA9A999 A9AA99",
    "hk": "AA9999 AA999 AA99 AA9",
    "kr": "999999 9999999",
    "jp": "9999 99999 999999 9999999",
    "sg": "AAA9999A AAA999A AAA99A AA9999A AA999A",
    "my": "AAA9999 AAA999 AA9999 AAA99 A9999 AAA9 A9999A",
    "id": "A9999AA A9999AAA AA9999AA A999AAA AA9999A",
    "ae": "99999 A99999 999999 9999 A9999 9999999 AA99999 AA9999",
    "qa": "999999 99999 9999",
    "sa": "9999AAA AAA9999 999AAA AAA999",
    "kw": "9999999 999999 99999",
    "om": "9999AA 9999A 99999A 99999AA 999AA",
    "bh": "999999 99999",
    "br": "AAA9999 AAA9A99",
    "ar": "AA999AA AAA999",
    "cl": "AAAA99 AA9999",
    "co": "AAA999",
    "cu": "A999999",
    "za": "AAA999AA AA99AAAA AA999999 AAA999A AA9999 AA999999AA AA99999 AA99AAAA",
    "ke": "AAA999A AAA999",
    "ug": "AAA999A AAA999",
    "ng": "AAA999AA AA999AAA",
    "au": "AA99AA AAA99A AAA999 9AA9AA 999AAA 9AAA999 A999AAA 999AA9 AA9999 9AA9AA",
    "nz": "AAA999 AA9999",
    "ca": "AAAA999 AAA999 AAA9999 999AAA A99AAA AA999A AA999 999999A",
    "ca-ab": "AAA9999 AAA999",
    "ca-bc": "AAA999 999AAA AA999A",
    "ca-on": "AAAA999 AAA999",
    "ca-qc": "A99AAA AAA999 999AAA",
    "au-act": "AAA99A",
    "au-nsw": "AA99AA AAA99A AAA999",
    "au-nt": "AA99AA 999999",
    "au-qld": "999AAA 999AA9 AAA999",
    "au-sa": "A999AAA AAA999",
    "au-tas": "A99AA A9999 AA9999",
    "au-vic": "AAA999 9AA9AA",
    "au-wa": "9AAA999",
    "us-ak": "AAA999",
    "us-al": "9A9999 99A9999 9AA9999 99AA999 99A999",
    "us-ar": "999AAA AAA99A",
    "us-az": "AAA9999 999AAA AAA999 A9A9AA",
    "us-ca": "9AAA999 9A99999 99999A9 999AAA AAA999",
    "us-co": "999AAA AAA999 AAAA99",
    "us-ct": "999AAA AA99999 9AAAA9",
    "us-dc": "AA9999",
    "us-de": "999999 AA9999 A99999 99999",
    "us-fl": "A999AA 999AAA AAAA99 AA99A AAA99A",
    "us-ga": "AAA9999 999AAA",
    "us-hi": "AAA999",
    "us-ia": "AAA999 999AAA",
    "us-id": "A999999 9A99999 9AA9999 9A9999",
    "us-il": "9999999 A999999 AA99999",
    "us-in": "999A 999AA 999AAA 99A9999",
    "us-ks": "999AAA 9999AAA",
    "us-ky": "999AAA AAA999 A9A999",
    "us-la": "999AAA AAA999",
    "us-ma": "999AA9 9AA999 9999AA 99AA99 9AAA99",
    "us-md": "9AA9999 9AAA99 AAA999 99AA99",
    "us-me": "9999AA",
    "us-mi": "AAA9999 9AAA99",
    "us-mn": "AAA999 999AAA",
    "us-mo": "AA9A9A AAA999 999AAA",
    "us-ms": "AAA999 AAA9999",
    "us-mt": "999999A 99999A 9999999",
    "us-nc": "AAA9999",
    "us-nd": "AAA999 999AAA",
    "us-ne": "AAA999 99A999 9A9999 99A99 9A999",
    "us-nh": "9999999 999999 99999",
    "us-nj": "A99AAA AAA99A AAA999",
    "us-nm": "999AAA AAA999",
    "us-nv": "999AAA 99A999 999A99",
    "us-ny": "AAA9999",
    "us-oh": "AAA9999 AA99AA",
    "us-ok": "999AAA AAA999",
    "us-or": "999AAA AAA999",
    "us-pa": "AAA9999",
    "us-ri": "999999 99999 AA999 9AA999",
    "us-sc": "AAA999 999AAA 9999AA",
    "us-sd": "9AA999 99A999 9A9999",
    "us-tn": "A9999A 999AAA AAA999 AAA9999 99A9A9",
    "us-tx": "AAA9999 AAA999 A99AAA 99AAA9",
    "us-ut": "A999AA 999AAA AAA999 9A9AA",
    "us-va": "AAA9999",
    "us-vt": "AAA999",
    "us-wa": "AAA9999 AAA999 999AAA",
    "us-wi": "999AAA AAA9999 AAA999",
    "us-wv": "9A9999 9AA999 AAA999",
    "us-wy": "99999 999999 9999 9999AA",
}

_MISMATCH = 0.06
"""How much less often a text off its country's series is seen: own choices, old series, trade plates."""

_UNLISTED = 0.35
"""The same factor where no series are listed."""


_FORM = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "A" * 26 + "9" * 10)


@functools.cache
def _series(code: str) -> frozenset[str] | None:
    series = _SERIES.get(code) or _SERIES.get(code.partition("-")[0])
    return None if series is None else frozenset(series.split())


@functools.lru_cache(maxsize=8192)
def _plausibilities(form: str, codes: tuple[str, ...]) -> NDArray[np.float64]:
    listed = (_series(code) for code in codes)
    return np.array([_UNLISTED if s is None else 1.0 if form in s else _MISMATCH for s in listed])


def plausibilities(text: str, codes: tuple[str, ...]) -> NDArray[np.float64]:
    """How well a text (upper case) fits each region's series, 0..1: 1 fits, less where it does not."""
    return _plausibilities(text.translate(_FORM), codes)


def agrees(code: str, hint: str) -> bool:
    """Whether one region is or contains the other: ``us-ca`` agrees with ``us`` and ``us`` with ``us-ca``."""
    return code == hint or code.startswith(f"{hint}-") or hint.startswith(f"{code}-")
