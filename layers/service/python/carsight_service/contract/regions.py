"""The region codes that a caller may send, for the functions without the engine.

They are those of the engine (``carsight.plate.regions``); a test compares both.
"""

from __future__ import annotations

from carsight_service.contract.errors import UnknownRegions

_COUNTRIES = """
    ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv
    bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es
    et fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie
    il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly
    ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu
    nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm
    sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug um us uy uz va vc ve
    vg vi vn vu wf ws xk ye yt za zm zw
"""

_STATES = {
    "au": "act nsw nt qld sa tas vic wa",
    "br": "ac al am ap ba ce df es go ma mg ms mt pa pb pe pi pr rj rn ro rr rs sc se sp to",
    "ca": "ab bc mb nb nl ns nt nu on pe qc sk yt",
    "ge": "ab",
    "us": """
        ak al ar az ca co ct dc de fl ga hi ia id il in ks ky la ma md me mi mn mo ms mt nc nd ne nh
        nj nm nv ny oh ok or pa ri sc sd tn tx ut va vt wa wi wv wy
    """,
}

REGIONS = frozenset(_COUNTRIES.split()) | {
    f"{country}-{state}" for country, states in _STATES.items() for state in states.split()
}
"""Countries (ISO 3166-1 alpha-2, lower case), and ``country-state`` if states issue their own plates."""


def known_regions(regions: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``regions``. Raises ``UnknownRegions`` if any is not in ``REGIONS``."""
    if unknown := [code for code in regions if code not in REGIONS]:
        raise UnknownRegions(unknown)
    return regions
