# ruff: noqa: E501 - one design a line: this is a table
"""What plates look like, country by country and state by state.

What may stand on them is in carsight/plate/regions.toml, which the product reads too; it says how texts are written
there. Looks follow the authorities' public descriptions and what the labeled photos show.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from carsight.plate import regions

Color = tuple[int, int, int]
"""Blue, green, red, 0..255."""

WHITE, BLACK, YELLOW = (235, 238, 238), (25, 22, 22), (25, 195, 240)
RED, BLUE, NAVY, GREEN = (40, 35, 190), (170, 70, 25), (95, 40, 15), (60, 95, 20)
MAROON, SILVER, CREAM, SKY = (35, 25, 110), (195, 198, 198), (205, 228, 238), (235, 205, 165)
ORANGE, BROWN, GOLD, TEAL = (35, 110, 235), (40, 60, 105), (70, 175, 215), (135, 130, 20)

NO_IQ = "ABCDEFGHJKLMNOPRSTUVWXYZ"
NO_IOQ = "ABCDEFGHJKLMNPRSTUVWXYZ"
ALL = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclasses.dataclass(frozen=True)
class Design:
    """One design. Sizes are in millimeters of the real plate; `text` is the height of its characters.

    `plates` names the texts of its region in regions.toml; `only` the letters that these use, where they are not
    simply its region's.
    """

    region: str
    plates: str
    ink: tuple[Color, ...] = (BLACK,)
    paper: tuple[Color, ...] = (WHITE,)
    gradient: Color | None = None
    size: tuple[int, int] = (520, 110)
    text: int = 76
    only: str = ""
    fonts: str = "eu"
    band: str | None = None
    band_right: bool = False
    top: tuple[str, ...] = ()
    bottom: tuple[str, ...] = ()
    words: tuple[Color, ...] = ()
    scenery: bool = False
    stickers: float = 0.0
    bolts: float = 0.3
    weight: float = 1.0
    vanity: float = 0.0

    @property
    def patterns(self) -> tuple[str, ...]:
        """Its texts as patterns."""
        return regions.plates(self.region)[self.plates]

    @property
    def letters(self) -> str:
        """The letters that may stand on it."""
        return self.only or regions.rules(self.region).letters or ALL


def _state(
    code: str,
    name: str,
    slogans: tuple[str, ...],
    plates: str,
    ink: tuple[Color, ...],
    paper: tuple[Color, ...] = (WHITE,),
    gradient: Color | None = None,
    words: tuple[Color, ...] = (),
    name_below: bool = False,
    scenery: bool = True,
) -> Design:
    """Return the design of a US state or a Canadian province.

    12 x 6 inches, its name above or below, a slogan opposite.
    """
    top, bottom = (slogans, (name,)) if name_below else ((name,), slogans)
    return Design(
        code, plates, ink, paper, gradient, (300, 150), 68, "", "us", None, False, top, bottom, words or ink,
        scenery, 0.6, 0.8, 1.0, 0.28,
    )  # fmt: skip


US = (
    _state("us-al", "Alabama", ("Heart of Dixie", "Sweet Home"), "standard", (BLACK, RED), (WHITE,), SKY),
    _state("us-ak", "ALASKA", ("The Last Frontier",), "standard", (NAVY, BLUE), (YELLOW, GOLD), scenery=False),
    _state("us-az", "ARIZONA", ("GRAND CANYON STATE",), "standard", (NAVY, WHITE, MAROON), (WHITE, MAROON, TEAL), (190, 150, 215)),
    _state("us-ar", "Arkansas", ("The Natural State",), "standard", (RED, BLUE, MAROON)),
    _state("us-ca", "California", ("dmv.ca.gov", ""), "standard", (NAVY, BLUE), words=(RED, NAVY), scenery=False),
    _state("us-ca", "CALIFORNIA", ("",), "legacy", (YELLOW, GOLD), (BLACK, NAVY), scenery=False),
    _state("us-co", "COLORADO", ("",), "standard", (WHITE, GREEN), (GREEN, WHITE), WHITE),
    _state("us-ct", "Connecticut", ("Constitution State",), "standard", (BLACK, NAVY), (SKY, WHITE), WHITE),
    _state("us-de", "DELAWARE", ("THE FIRST STATE",), "standard", (GOLD, YELLOW), (NAVY, BLUE), scenery=False),
    _state("us-dc", "WASHINGTON, D.C.", ("TAXATION WITHOUT REPRESENTATION", "Celebrate & Discover"), "standard", (BLUE, NAVY), words=(RED, NAVY), scenery=False),
    _state("us-fl", "FLORIDA", ("SUNSHINE STATE", "MYFLORIDA.COM"), "standard", (GREEN, (50, 80, 10)), words=(GREEN, ORANGE)),
    _state("us-ga", "GEORGIA", ("COBB", "FULTON", "PEACH STATE", "...on my mind"), "standard", (BLACK, NAVY), (WHITE, CREAM), (170, 200, 245)),
    _state("us-hi", "HAWAII", ("ALOHA STATE",), "standard", (BLACK,), words=(BLACK, RED)),
    _state("us-id", "IDAHO", ("FAMOUS POTATOES", "Scenic Idaho"), "standard", (BLACK, NAVY, RED), (WHITE, CREAM), (150, 130, 225), (BLUE, NAVY)),
    _state("us-il", "Illinois", ("Land of Lincoln",), "standard", (RED, MAROON), (WHITE, SKY), SKY, (BLUE, RED)),
    _state("us-in", "INDIANA", ("IN GOD WE TRUST", "Lincoln's Boyhood Home", "Amber Waves of Grain"), "standard", (BLUE, NAVY, WHITE), (WHITE, BLUE), (130, 190, 235)),
    _state("us-ia", "IOWA", ("POLK", "LINN", "SCOTT", "SIOUX", "JOHNSON"), "standard", (NAVY, BLUE, BLACK), (WHITE, SKY), WHITE),
    _state("us-ks", "KANSAS", ("", "SG"), "standard", (NAVY, BLUE), (SKY, WHITE), (170, 205, 225)),
    _state("us-ky", "Kentucky", ("Unbridled Spirit", "Bluegrass State", "JEFFERSON"), "standard", (NAVY, BLUE), (WHITE,), SKY),
    _state("us-la", "Louisiana", ("Sportsman's Paradise",), "standard", (NAVY, BLUE), (WHITE, CREAM), (190, 215, 240), (RED, MAROON)),
    _state("us-me", "Maine", ("Vacationland",), "standard", (NAVY, BLACK), (WHITE, CREAM), (205, 225, 215), (GREEN, NAVY)),
    _state("us-md", "Maryland", ("www.maryland.gov", "MDMANUAL.COM", "Treasure the Chesapeake"), "standard", (BLACK,), scenery=False),
    _state("us-ma", "Massachusetts", ("The Spirit of America",), "standard", (RED, MAROON), words=(NAVY, BLUE)),
    _state("us-mi", "MICHIGAN", ("www.Michigan.gov", "GREAT LAKES", "PURE MICHIGAN"), "standard", (NAVY, BLUE, WHITE), (WHITE, BLUE), scenery=False),
    _state("us-mn", "Minnesota", ("10,000 lakes",), "standard", (NAVY, BLACK), (WHITE, SKY), SKY, (BLUE, NAVY)),
    _state("us-ms", "Mississippi", ("HINDS", "RANKIN", "DESOTO", "The Birthplace of America's Music"), "standard", (NAVY, BLUE, GREEN), (WHITE, CREAM), (175, 215, 230)),
    _state("us-mo", "Missouri", ("SHOW-ME STATE",), "standard", (NAVY, BLUE), (WHITE,), SKY, (RED, NAVY)),
    _state("us-mt", "Montana", ("Big Sky Country", "TREASURE STATE"), "standard", (WHITE, NAVY, RED), (BLUE, WHITE, NAVY), SKY),
    _state("us-ne", "NEBRASKA", ("www.nebraska.gov", "1867-2017"), "standard", (BLACK, NAVY), (WHITE, GOLD), (130, 190, 235)),
    _state("us-nv", "NEVADA", ("The Silver State", "Home Means Nevada"), "standard", (NAVY, BLUE, WHITE), (WHITE, SILVER, BLUE), (205, 150, 110)),
    _state("us-nh", "NEW HAMPSHIRE", ("LIVE FREE OR DIE",), "standard", (GREEN, (50, 80, 10)), (WHITE, (215, 235, 215)), (190, 215, 190), name_below=True),
    _state("us-nj", "New Jersey", ("Garden State",), "standard", (BLACK,), ((190, 235, 245), WHITE), YELLOW, scenery=False),
    _state("us-nm", "New Mexico USA", ("Land of Enchantment", "Centennial"), "standard", (RED, MAROON, YELLOW), (YELLOW, GOLD, TEAL), scenery=False),
    _state("us-ny", "NEW YORK", ("EMPIRE STATE", "EXCELSIOR"), "standard", (NAVY, BLUE, BLACK), (GOLD, WHITE, YELLOW), words=(GOLD, NAVY), scenery=False),
    _state("us-nc", "NORTH CAROLINA", ("First in Flight", "First in Freedom"), "standard", (BLUE, NAVY), words=(RED, NAVY)),
    _state("us-nd", "NORTH DAKOTA", ("Peace Garden State", "Legendary", "Discover the Spirit"), "standard", (BLACK,), (WHITE, SKY), (90, 190, 235), (NAVY, RED)),
    _state("us-oh", "OHIO", ("Birthplace of Aviation", "BUCKEYE STATE", "BEAUTIFUL OHIO"), "standard", (NAVY, BLACK, RED), (WHITE,), (225, 200, 180), (RED, NAVY)),
    _state("us-ok", "OKLAHOMA", ("NATIVE AMERICA", "Explore Oklahoma"), "standard", (BLACK, NAVY, GREEN), (WHITE, SKY), SKY),
    _state("us-or", "Oregon", ("", "Pacific Wonderland"), "standard", (NAVY, BLUE, BLACK), (SKY, WHITE), (215, 185, 190)),
    _state("us-pa", "PENNSYLVANIA", ("visitPA.com", "www.state.pa.us", "KEYSTONE STATE"), "standard", (NAVY, BLUE), (WHITE,), YELLOW, (WHITE, NAVY), scenery=False),
    _state("us-ri", "Rhode Island", ("Ocean State",), "standard", (NAVY, BLUE), (WHITE,), (235, 215, 180)),
    _state("us-sc", "South Carolina", ("Smiling Faces. Beautiful Places.", "While I Breathe, I Hope", "Travel2SC.com"), "standard", (NAVY, BLACK, BLUE), (WHITE,), (200, 225, 245)),
    _state("us-sd", "SOUTH DAKOTA", ("Great Faces. Great Places.",), "standard", (RED, NAVY, GREEN, BLACK), (WHITE, SKY), (190, 205, 225)),
    _state("us-tn", "Tennessee", ("The Volunteer State", "tnvacation.com", "KNOX", "SHELBY"), "standard", (NAVY, BLACK, GREEN), (WHITE, SKY), (175, 215, 190)),
    _state("us-tx", "TEXAS", ("The Lone Star State",), "standard", (BLACK, NAVY), (WHITE,), (225, 205, 185), (BLACK, NAVY, RED)),
    _state("us-ut", "UTAH", ("Greatest Snow on Earth", "LIFE ELEVATED", "IN GOD WE TRUST"), "standard", (NAVY, BLACK, BLUE), (WHITE, SKY), (120, 170, 225)),
    _state("us-vt", "VERMONT", ("GREEN MOUNTAIN STATE",), "standard", (WHITE,), (GREEN, (60, 110, 20)), scenery=False, name_below=False),
    _state("us-va", "VIRGINIA", ("Virginia is for Lovers", "400th Anniversary", "JAMESTOWN"), "standard", (NAVY, BLUE), scenery=False),
    _state("us-wa", "WASHINGTON", ("EVERGREEN STATE",), "standard", (BLUE, NAVY), (WHITE, SKY), SKY, (RED, NAVY)),
    _state("us-wv", "WEST VIRGINIA", ("Wild, Wonderful",), "standard", (NAVY, BLACK), words=(NAVY, GOLD), scenery=False),
    _state("us-wi", "WISCONSIN", ("America's Dairyland",), "standard", (BLACK, NAVY), (WHITE, CREAM), SKY, (RED, GREEN)),
    _state("us-wy", "Wyoming", ("", "Forever West"), "standard", (BLACK, BROWN, NAVY), (WHITE, SKY), (130, 160, 200)),
)  # fmt: skip

CANADA = (
    _state("ca-on", "ONTARIO", ("YOURS TO DISCOVER",), "standard", (BLUE, NAVY), scenery=False),
    _state("ca-qc", "Québec", ("Je me souviens",), "standard", (BLUE, NAVY), scenery=False),
    _state("ca-bc", "Beautiful", ("British Columbia",), "standard", (BLUE, NAVY), scenery=False),
    _state("ca-ab", "Wild Rose Country", ("Alberta",), "standard", (RED, MAROON), scenery=False),
    _state("ca-mb", "Manitoba", ("Friendly",), "standard", (BLACK, NAVY), (WHITE, SKY), SKY),
    _state("ca-sk", "Saskatchewan", ("Land of Living Skies",), "standard", (GREEN, NAVY), (WHITE, CREAM)),
    _state("ca-ns", "Nova Scotia", ("Canada's Ocean Playground",), "standard", (BLUE, NAVY), (WHITE,), SKY),
    _state("ca-nb", "New Nouveau Brunswick", ("",), "standard", (RED, BLUE)),
    _state("ca-nl", "Newfoundland Labrador", ("",), "standard", (BLUE, RED)),
    _state("ca-pe", "Prince Edward Island", ("Canada's Green Province",), "standard", (GREEN, BLUE)),
)  # fmt: skip


def _european(
    code: str,
    band: str | None,
    only: str = "",
    paper: tuple[Color, ...] = (WHITE,),
    ink: tuple[Color, ...] = (BLACK,),
    weight: float = 1.0,
    right: bool = False,
) -> Design:
    return Design(
        code, "standard", ink, paper, None, (520, 110), 76, only, "eu", band, right, bottom=("", "", "AUTOHAUS"),
        weight=weight,
    )  # fmt: skip


def _europeans(*rows: tuple[str, str | None, float]) -> tuple[Design, ...]:
    """Return designs that differ in nothing but their band and their weight."""
    return tuple(_european(code, band, weight=weight) for code, band, weight in rows)


EUROPE = (
    _european("de", "D", weight=5),
    _european("fr", "F", weight=3, right=True),
    _european("it", "I", NO_IOQ, weight=3, right=True),
    _european("es", "E", "BCDFGHJKLMNPRSTVWXYZ", weight=2),
    _european("nl", "NL", "", (YELLOW,), weight=3),
    _european("be", "B", NO_IQ, ink=(MAROON, (40, 30, 140)), weight=2),
    *_europeans(
        ("pl", "PL", 2), ("cz", "CZ", 2), ("sk", "SK", 1), ("at", "A", 2), ("ch", None, 2), ("hu", "H", 1),
        ("ro", "RO", 2), ("bg", "BG", 1), ("gr", "GR", 1), ("hr", "HR", 1), ("si", "SLO", 1),
        ("rs", "SRB", 1), ("ba", "BIH", 0.5), ("mk", "MK", 0.3), ("me", "MNE", 0.3), ("al", "AL", 0.3),
        ("pt", "P", 1), ("se", "S", 1), ("no", "N", 1), ("dk", "DK", 1), ("fi", "FIN", 1),
    ),
    _european("is", None, ink=(BLUE, NAVY), weight=0.4),
    *_europeans(("ie", "IRL", 2), ("ee", "EST", 0.5), ("lv", "LV", 0.7), ("lt", "LT", 0.7)),
    _european("lu", "L", paper=(YELLOW,), weight=0.7),
    *_europeans(
        ("mt", "M", 0.4), ("cy", "CY", 0.4), ("tr", "TR", 2), ("ua", "UA", 1), ("ru", None, 1.5),
        ("by", None, 0.7), ("md", "MD", 0.4), ("ge", "GE", 0.4), ("am", "AM", 0.3), ("az", "AZ", 0.4),
        ("kz", "KZ", 0.3),
    ),
    _european("mc", None, ink=(BLUE, NAVY), weight=0.2),
    _european("li", None, paper=(BLACK,), ink=(WHITE,), weight=0.2),
    _european("je", None, weight=0.2),
    _european("im", None, weight=0.2),
    _european("il", None, paper=(YELLOW,), weight=1),
    Design("xk", "standard", size=(520, 110), text=76, band="RKS", weight=0.4),
    Design("ad", "standard", size=(520, 110), text=60, bottom=("PRINCIPAT D'ANDORRA",), words=(BLUE,), weight=0.2),
)  # fmt: skip

BRITAIN = (
    Design("gb", "standard", paper=(WHITE, YELLOW), size=(520, 111), text=79, fonts="gb", weight=5, bottom=("", "", "WWW.MOTORS.CO.UK", "LONDON"), vanity=0.05),
    Design("gb", "standard", paper=(WHITE, YELLOW), size=(520, 111), text=79, fonts="gb", band="GB", weight=2, bottom=("", "CAR SALES 01582")),
    Design("gb", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 111), text=79, fonts="gb", weight=0.6),
    Design("gi", "standard", paper=(WHITE, YELLOW), size=(520, 111), text=79, fonts="gb", band="GBZ", weight=0.2),
    Design("gg", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 111), text=79, fonts="gb", weight=0.2),
)  # fmt: skip

ASIA = (
    Design("in", "standard", paper=(WHITE, WHITE, YELLOW), size=(500, 110), text=62, fonts="any", band="IND", weight=1.5),
    Design("in", "standard", paper=(WHITE, WHITE, YELLOW, BLACK), ink=(BLACK,), size=(500, 120), text=64, fonts="any", weight=2.5),
    Design("pk", "standard", paper=(WHITE, SILVER), size=(420, 130), text=66, fonts="any", band="green", top=("", "PUNJAB"), bottom=("", "PUNJAB", "SINDH"), weight=2),
    Design("pk", "standard", paper=(WHITE, SILVER, SKY), size=(420, 140), text=60, fonts="any", top=("ICT", "", ""), bottom=("ISLAMABAD", "ICT-ISLAMABAD", "LAHORE", "SINDH", "PESHAWAR", ""), weight=3),
    Design("pk", "standard", paper=(WHITE, SILVER), size=(420, 130), text=62, fonts="any", band="picture", bottom=("ICT-ISLAMABAD", "ISLAMABAD"), weight=2),
    Design("pk", "standard", paper=(YELLOW, GOLD), size=(440, 140), text=66, fonts="any", bottom=("SINDH", "", "GOVT OF SINDH"), weight=1.5),
    Design("pk", "standard", ink=(WHITE, SILVER, GOLD), paper=(BLACK, (60, 30, 25)), size=(440, 130), text=70, fonts="any", bottom=("", "", "RAWALPINDI"), weight=1.5),
    Design("cn", "standard", ink=(WHITE,), paper=((170, 75, 20), (200, 90, 15), (140, 55, 15)), size=(440, 140), text=90, band="hanzi", weight=2.5),
    Design("cn", "standard", ink=(BLACK,), paper=(YELLOW,), size=(440, 140), text=90, band="hanzi", weight=0.7),
    Design("cn", "electric", ink=(BLACK,), paper=((190, 230, 190),), gradient=(120, 205, 95), size=(480, 140), text=90, band="hanzi", weight=0.5),
    Design("hk", "standard", paper=(WHITE, YELLOW), size=(520, 111), text=79, fonts="gb", weight=0.7),
    Design("tw", "standard", size=(380, 160), text=85, fonts="any", weight=0.5),
    Design("kr", "standard", paper=(WHITE, (200, 220, 200)), size=(520, 110), text=80, weight=1.5),
    Design("sg", "standard", ink=(WHITE,), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.7),
    Design("sg", "standard", paper=(WHITE, YELLOW), size=(520, 110), text=76, fonts="any", weight=0.3),
    Design("my", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 110), text=80, fonts="any", weight=1.3),
    Design("id", "standard", ink=(WHITE,), paper=(BLACK,), size=(430, 135), text=70, fonts="any", bottom=("05.23", "11-19"), weight=0.7),
    Design("th", "standard", size=(340, 150), text=70, fonts="any", weight=0.4),
    Design("ph", "standard", size=(390, 140), text=80, fonts="any", bottom=("REGION 4A", "MATATAG NA REPUBLIKA", "PILIPINAS"), weight=0.5),
    Design("vn", "standard", size=(470, 110), text=76, weight=0.4),
    Design("lk", "standard", paper=(WHITE, YELLOW), size=(500, 110), text=66, fonts="any", weight=0.4),
    Design("bd", "standard", size=(400, 130), text=70, fonts="any", weight=0.2),
    Design("ae", "standard", paper=(WHITE,), size=(520, 110), text=76, fonts="any", band="arabic", weight=1.5),
    Design("ae", "standard", paper=(WHITE,), size=(330, 130), text=62, fonts="any", top=("DUBAI", "A.DHABI", "SHARJAH", "U.A.E"), weight=1),
    Design("ae", "dubai", paper=(WHITE,), size=(520, 110), text=76, fonts="any", weight=1),
    Design("qa", "standard", size=(520, 110), text=70, fonts="any", band="maroon", weight=1),
    Design("sa", "standard", size=(520, 110), text=50, fonts="any", top=("KSA",), weight=0.7),
    Design("kw", "standard", size=(330, 150), text=64, fonts="any", top=("KUWAIT",), weight=0.7),
    Design("om", "standard", paper=(YELLOW, GOLD), size=(520, 110), text=72, fonts="any", band="arabic", weight=0.5),
    Design("bh", "standard", size=(440, 130), text=62, fonts="any", bottom=("BAHRAIN",), band="red", weight=0.5),
    Design("uz", "standard", size=(520, 112), text=76, band="UZ", weight=0.3),
    Design("jo", "standard", size=(520, 110), text=70, fonts="any", weight=0.3),
    Design("lb", "standard", size=(520, 110), text=76, fonts="any", band="blue", weight=0.3),
    Design("kg", "standard", size=(520, 112), text=76, weight=0.3),
    Design("kg", "red", size=(520, 112), text=76, band="red", weight=0.2),
    Design("tj", "standard", size=(520, 112), text=76, band="TJ", weight=0.3),
    Design("tm", "standard", size=(520, 112), text=76, band="TM", weight=0.2),
    Design("iq", "standard", size=(520, 110), text=76, band="IRQ", weight=0.4),
    Design("ps", "standard", only=NO_IOQ, ink=(GREEN, (70, 110, 30)), size=(520, 110), text=76, fonts="any", weight=0.4),
    Design("kh", "standard", ink=(NAVY, BLUE, BLACK), size=(380, 150), text=70, fonts="any", bottom=("PHNOM PENH", "SIEM REAP", "BATTAMBANG", "PREAH SIHANOUK", "KANDAL"), weight=0.3),
    Design("kh", "black", ink=(WHITE,), paper=(BLACK,), size=(380, 150), text=70, fonts="any", bottom=("PHNOM PENH",), weight=0.1),
    Design("mo", "standard", ink=(WHITE, WHITE, YELLOW), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.3),
    Design("bn", "standard", only=NO_IOQ, ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.2),
)  # fmt: skip

OCEANIA = (
    Design("au-nsw", "standard", paper=(YELLOW, WHITE, GOLD), size=(372, 134), text=68, fonts="us", bottom=("NEW SOUTH WALES", "NSW"), weight=1.5, vanity=0.1),
    Design("au-vic", "standard", ink=(BLUE, NAVY, GREEN), size=(372, 134), text=68, fonts="us", bottom=("VICTORIA - THE PLACE TO BE", "VICTORIA STAY ALERT STAY ALIVE", "VICTORIA - ON THE MOVE", "VIC - THE EDUCATION STATE", "GARDEN STATE"), weight=1.5),
    Design("au-qld", "standard", ink=(MAROON, GREEN), size=(372, 134), text=68, fonts="us", bottom=("QUEENSLAND - SUNSHINE STATE", "QUEENSLAND - SMART STATE"), weight=1),
    Design("au-wa", "standard", ink=(BLUE, BLACK), paper=(WHITE, YELLOW), size=(372, 134), text=68, fonts="us", top=("WESTERN AUSTRALIA",), weight=0.7),
    Design("au-sa", "standard", ink=(BLACK,), paper=(WHITE, YELLOW), size=(372, 134), text=68, fonts="us", bottom=("SOUTH AUSTRALIA - THE FESTIVAL STATE", "SA GOING PLACES"), weight=0.7),
    Design("au-act", "standard", ink=(BLUE,), size=(372, 134), text=68, fonts="us", bottom=("ACT - CANBERRA THE NATION'S CAPITAL",), weight=0.4),
    Design("au-nt", "standard", ink=((50, 80, 190),), size=(372, 134), text=68, fonts="us", bottom=("NT - OUTBACK AUSTRALIA",), weight=0.4),
    Design("au-tas", "standard", ink=(BLUE,), size=(372, 134), text=68, fonts="us", bottom=("TASMANIA - EXPLORE THE POSSIBILITIES",), weight=0.3),
    Design("nz", "standard", size=(360, 125), text=78, fonts="us", weight=0.7),
)  # fmt: skip

AMERICAS = (
    Design("br", "standard", paper=(SILVER, (165, 165, 168), (185, 180, 178)), size=(400, 130), text=64, fonts="br", top=("SP - SAO PAULO", "PR - CURITIBA", "RJ - RIO DE JANEIRO", "MG - BELO HORIZONTE", "SC - JOINVILLE", "RS - PORTO ALEGRE", "BRASIL"), weight=5, bolts=0.7),
    Design("br", "standard", ink=(WHITE,), paper=((45, 35, 150), (60, 50, 170)), size=(400, 130), text=64, fonts="br", top=("PR - CURITIBA", "SP - SAO PAULO", "MG - UBERABA"), weight=1.2, bolts=0.7),
    Design("br", "mercosur", size=(400, 130), text=68, fonts="eu", band="mercosur", top=("BRASIL",), words=(WHITE,), weight=2),
    Design("ar", "standard", size=(400, 130), text=68, fonts="eu", band="mercosur", top=("REPUBLICA ARGENTINA",), words=(WHITE,), weight=0.6),
    Design("ar", "black", ink=(WHITE,), paper=(BLACK,), size=(300, 130), text=65, fonts="any", top=("ARGENTINA",), weight=0.5),
    Design("mx", "standard", size=(300, 150), text=64, only=NO_IOQ, fonts="us", ink=(BLACK, MAROON, GREEN), top=("JALISCO", "CDMX", "MEXICO", "BAJA CALIFORNIA", "NUEVO LEON"), bottom=("DELANTERA", "TRASERA", "MEXICO"), gradient=(210, 220, 235), scenery=True, stickers=0.2, weight=1.2),
    Design("cl", "standard", size=(360, 130), text=68, only="BCDFGHJKLPRSTVWXYZ", fonts="eu", bottom=("CHILE",), weight=0.5),
    Design("co", "standard", paper=(YELLOW, GOLD), size=(330, 160), text=70, fonts="any", bottom=("BOGOTA D.C.", "MEDELLIN", "CALI"), weight=0.6),
    Design("pe", "standard", size=(300, 150), text=64, fonts="eu", top=("PERU",), weight=0.3),
    Design("cu", "standard", size=(520, 110), text=70, band="CUBA", weight=0.5),
    Design("uy", "standard", size=(400, 130), text=68, fonts="eu", top=("URUGUAY", ""), bottom=("URUGUAY", ""), weight=0.3),
    Design("uy", "mercosur", size=(400, 130), text=68, fonts="eu", band="mercosur", top=("URUGUAY",), words=(WHITE,), weight=0.5),
    Design("py", "standard", ink=(RED,), size=(320, 170), text=76, fonts="any", top=("PARAGUAY",), weight=0.3),
    Design("py", "mercosur", size=(400, 130), text=68, fonts="eu", band="mercosur", top=("PARAGUAY",), words=(WHITE,), weight=0.4),
    Design("bo", "standard", ink=(BLUE, NAVY), paper=(WHITE,), size=(305, 152), text=68, fonts="us", top=("BOLIVIA",), weight=0.4),
    Design("ve", "standard", size=(300, 150), text=62, fonts="us", gradient=(150, 215, 240), scenery=True, top=("REPUBLICA BOLIVARIANA DE VENEZUELA",), bottom=("ZULIA", "MIRANDA", "CARABOBO", "DISTRITO CAPITAL", "LARA", "ARAGUA"), words=(BLUE,), weight=0.4),
    Design("ve", "legacy", ink=(BLUE, BLACK), size=(300, 150), text=66, fonts="us", top=("VENEZUELA",), bottom=("SUCRE", "MIRANDA", "ZULIA"), weight=0.2),
    Design("ec", "standard", paper=(WHITE, WHITE, SILVER, ORANGE), size=(400, 150), text=76, fonts="us", top=("ECUADOR",), weight=0.4),
    Design("cr", "standard", ink=(BLUE, NAVY), size=(300, 150), text=66, fonts="us", top=("COSTA RICA",), bottom=("CENTROAMERICA", "CENTRO AMERICA"), weight=0.3),
    Design("sv", "standard", paper=(WHITE, SKY), gradient=(205, 150, 90), size=(300, 150), text=64, fonts="us", top=("EL SALVADOR",), bottom=("CENTRO AMERICA",), weight=0.3),
    Design("hn", "standard", size=(300, 150), text=66, fonts="us", scenery=True, top=("Cuidemos los Bosques",), bottom=("HONDURAS, C.A.",), weight=0.3),
    Design("do", "standard", paper=(YELLOW, WHITE), gradient=(90, 210, 245), size=(300, 150), text=68, fonts="us", top=("REP. DOMINICANA", "REP.DOMINICANA"), weight=0.4),
    Design("pr", "standard", ink=(BLACK, NAVY), size=(300, 150), text=68, fonts="us", top=("PUERTO RICO",), bottom=("Isla del Encanto",), gradient=SKY, scenery=True, stickers=0.4, weight=0.4),
    Design("jm", "standard", ink=(BLUE, NAVY), size=(300, 150), text=68, fonts="us", weight=0.2),
    Design("jm", "public", ink=(WHITE,), paper=(RED,), size=(300, 150), text=68, fonts="us", weight=0.1),
    Design("jm", "commercial", ink=(WHITE,), paper=(GREEN,), size=(300, 150), text=68, fonts="us", weight=0.1),
    Design("tt", "standard", only=NO_IQ, ink=(WHITE, SILVER), paper=(BLACK,), size=(480, 110), text=76, fonts="any", weight=0.2),
    Design("tt", "standard", only=NO_IQ, size=(480, 110), text=76, fonts="any", weight=0.1),
    Design("gy", "standard", only=NO_IQ, ink=(WHITE,), paper=(BLACK,), size=(480, 110), text=80, fonts="any", weight=0.2),
)  # fmt: skip

AFRICA = (
    Design("za", "standard", only="BCDFGHJKLMNPRSTVWXYZ", ink=(BLACK, GREEN, BLUE), size=(520, 110), text=70, fonts="any", weight=1),
    Design("ke", "standard", paper=(WHITE, YELLOW), size=(520, 110), text=72, fonts="any", weight=0.7),
    Design("ug", "standard", paper=(WHITE, YELLOW), size=(520, 110), text=72, fonts="any", weight=0.7),
    Design("ng", "standard", ink=(BLUE, BLACK), size=(400, 140), text=62, fonts="any", top=("LAGOS", "ABUJA"), bottom=("CENTER OF EXCELLENCE",), weight=0.5),
    Design("gh", "standard", size=(520, 110), text=72, fonts="any", weight=0.3),
    Design("ma", "standard", size=(520, 110), text=72, fonts="any", weight=0.4),
    Design("eg", "standard", size=(340, 150), text=60, fonts="any", top=("EGYPT",), weight=0.1),
    Design("tn", "standard", ink=(WHITE, SILVER), paper=(BLACK, BLACK, BLACK, BLUE), size=(520, 110), text=76, fonts="any", weight=0.5),
    Design("dz", "standard", paper=(WHITE, YELLOW), size=(520, 110), text=75, fonts="any", weight=0.5),
    Design("ly", "standard", size=(520, 110), text=72, fonts="any", weight=0.3),
    Design("tz", "standard", paper=(YELLOW, YELLOW, WHITE), size=(520, 110), text=76, fonts="any", weight=0.4),
    Design("tz", "zanzibar", paper=(WHITE, YELLOW), size=(520, 110), text=76, fonts="any", weight=0.1),
    Design("zm", "standard", size=(520, 110), text=72, fonts="eu", band="picture", top=("ZAMBIA", ""), weight=0.2),
    Design("zm", "standard", paper=(WHITE, YELLOW), size=(520, 110), text=76, fonts="gb", weight=0.1),
    Design("zw", "standard", paper=(YELLOW, YELLOW, WHITE), ink=(BLACK, BLACK, RED), size=(520, 110), text=72, fonts="eu", bottom=("ZIMBABWE",), weight=0.3),
    Design("mz", "standard", gradient=(225, 190, 140), size=(520, 110), text=72, fonts="eu", weight=0.3),
    Design("mz", "black", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.1),
    Design("na", "standard", paper=(YELLOW,), size=(520, 110), text=76, fonts="any", weight=0.4),
    Design("bw", "standard", only="ABCDEFGHIJKLMNOPRSTUVWXYZ", paper=(WHITE, YELLOW), size=(520, 110), text=76, fonts="any", weight=0.3),
    Design("ls", "standard", ink=(BLUE, BLUE, RED), size=(520, 110), text=76, fonts="any", weight=0.2),
    Design("sz", "standard", size=(520, 110), text=70, fonts="any", weight=0.2),
    Design("ao", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.3),
    Design("cv", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.2),
    Design("mg", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 110), text=76, fonts="any", weight=0.3),
    Design("cm", "standard", paper=(ORANGE, (40, 150, 240)), size=(520, 110), text=76, fonts="eu", weight=0.4),
    Design("sn", "standard", size=(520, 110), text=75, fonts="eu", band="SN", weight=0.2),
    Design("sn", "blue", ink=(WHITE, SILVER), paper=(BLUE, (150, 80, 30)), size=(520, 110), text=76, fonts="any", weight=0.2),
    Design("ci", "standard", ink=(WHITE,), paper=(BLUE, (150, 80, 30)), size=(520, 110), text=76, fonts="any", weight=0.3),
    Design("cd", "standard", size=(480, 112), text=76, fonts="eu", band="CGO", weight=0.2),
    Design("bj", "standard", size=(520, 110), text=76, fonts="any", weight=0.2),
    Design("mu", "standard", paper=(WHITE, YELLOW), size=(520, 111), text=79, fonts="gb", weight=0.2),
    Design("mu", "standard", ink=(WHITE, SILVER), paper=(BLACK,), size=(520, 111), text=79, fonts="gb", weight=0.1),
)  # fmt: skip


def _two(
    code: str, plates: str, size: tuple[int, int] = (280, 200), text: int = 76, **more: object
) -> Design:
    return Design(code, plates, size=size, text=text, **more)  # type: ignore[arg-type]


TWO_ROWS = (
    _two("gb", "two_rows", paper=(WHITE, YELLOW), fonts="gb", weight=3),
    _two("gb", "two_rows", ink=(WHITE, SILVER), paper=(BLACK,), fonts="gb", weight=0.4),
    _two("pk", "two_rows", size=(300, 190), text=72, fonts="any", band="green", paper=(WHITE,), bottom=("", "PUNJAB"), weight=4),
    _two("pk", "two_rows_plain", size=(300, 180), text=68, fonts="any", paper=(WHITE, YELLOW, SILVER), bottom=("", "SINDH", "ISLAMABAD"), weight=1.5),
    _two("pk", "two_rows_plain", size=(300, 180), text=68, fonts="any", ink=(WHITE, GOLD), paper=(BLACK,), weight=0.7),
    _two("in", "two_rows", size=(300, 190), text=66, fonts="any", paper=(WHITE, WHITE, YELLOW, BLACK), weight=3),
    _two("jp", "two_rows", size=(330, 165), text=74, fonts="any", paper=(WHITE, WHITE, YELLOW), ink=(GREEN, BLACK, (60, 80, 20)), weight=2.5),
    _two("de", "two_rows", band="D", weight=1),
    _two("nl", "two_rows", paper=(YELLOW,), band="NL", weight=1),
    _two("fr", "two_rows", band="F", band_right=True, weight=1),
    _two("it", "two_rows", band="I", only=NO_IOQ, weight=1),
    _two("es", "two_rows", band="E", only="BCDFGHJKLMNPRSTVWXYZ", weight=0.7),
    _two("pl", "two_rows", band="PL", weight=0.7),
    _two("at", "two_rows", band="A", weight=0.6),
    _two("be", "two_rows", ink=(MAROON,), band="B", weight=0.6),
    *(
        _two(code, "two_rows", band=band, weight=weight)
        for code, band, weight in (
            ("cz", "CZ", 0.6), ("sk", "SK", 0.4), ("se", "S", 0.5), ("no", "N", 0.5), ("dk", "DK", 0.5), ("ch", None, 0.5),
            ("tr", "TR", 0.6), ("ro", "RO", 0.5), ("lv", "LV", 0.3), ("lt", "LT", 0.3), ("bg", "BG", 0.3), ("by", None, 0.3),
            ("gr", "GR", 0.3), ("hu", "H", 0.3), ("ie", "IRL", 0.4), ("ru", None, 0.4),
        )
    ),
    _two("br", "two_rows", size=(200, 170), text=63, fonts="br", paper=(SILVER, (165, 165, 168)), top=("SP - SAO PAULO", "PR - CURITIBA"), weight=1.5),
    _two("br", "mercosur_two_rows", size=(200, 170), text=63, band="mercosur", top=("BRASIL",), words=(WHITE,), weight=0.7),
    _two("hk", "two_rows", paper=(WHITE, YELLOW), fonts="gb", weight=0.5),
    _two("my", "two_rows", ink=(WHITE,), paper=(BLACK,), fonts="any", weight=0.8),
    _two("sg", "two_rows", ink=(WHITE,), paper=(BLACK,), fonts="any", weight=0.5),
    _two("za", "two_rows", fonts="any", weight=0.5),
    _two("ke", "two_rows", fonts="any", paper=(WHITE, YELLOW), weight=0.5),
    _two("ug", "two_rows", fonts="any", paper=(WHITE, YELLOW), weight=0.5),
    _two("cn", "two_rows", ink=(BLACK,), paper=(YELLOW,), size=(440, 220), text=80, weight=0.5),
    _two("kr", "two_rows", ink=(WHITE, BLACK), paper=((60, 110, 40), WHITE), size=(335, 170), text=72, weight=0.6),
    _two("th", "two_rows", fonts="any", weight=0.2),
    _two("vn", "two_rows", size=(280, 200), text=70, weight=0.7),
    _two("id", "two_rows", ink=(WHITE,), paper=(BLACK,), fonts="any", weight=0.3),
    _two("ae", "two_rows", size=(330, 160), text=60, fonts="any", top=("DUBAI", "SHARJAH"), weight=0.4),
    _two("sa", "two_rows", size=(330, 160), text=50, fonts="any", weight=0.3),
    _two("xk", "two_rows", band="RKS", weight=0.1),
    _two("gi", "two_rows", paper=(WHITE, YELLOW), fonts="gb", band="GBZ", weight=0.1),
    _two("iq", "two_rows", size=(335, 155), text=62, band="IRQ", weight=0.2),
    _two("mo", "two_rows", ink=(WHITE, YELLOW), paper=(BLACK,), fonts="any", weight=0.2),
    _two("py", "mercosur_two_rows", size=(200, 170), text=63, band="mercosur", top=("PARAGUAY",), words=(WHITE,), weight=0.2),
    _two("tn", "two_rows", size=(275, 200), ink=(WHITE,), paper=(BLACK,), fonts="any", weight=0.2),
    _two("dz", "two_rows", size=(275, 200), text=70, paper=(YELLOW, WHITE), fonts="any", weight=0.1),
    _two("ly", "two_rows", size=(270, 150), text=60, fonts="any", weight=0.1),
    _two("tz", "two_rows", paper=(YELLOW, YELLOW, WHITE), fonts="any", weight=0.4),
    _two("zm", "two_rows", fonts="eu", top=("ZAMBIA", ""), weight=0.1),
    _two("zw", "two_rows", paper=(YELLOW, WHITE), fonts="eu", bottom=("ZIMBABWE", ""), weight=0.2),
    _two("mz", "two_rows", gradient=(225, 190, 140), fonts="eu", weight=0.2),
    _two("bw", "two_rows", only="ABCDEFGHIJKLMNOPRSTUVWXYZ", paper=(WHITE, YELLOW), fonts="any", weight=0.2),
    _two("sz", "two_rows", fonts="any", weight=0.1),
    _two("ao", "two_rows", ink=(WHITE, SILVER), paper=(BLACK,), fonts="any", weight=0.2),
    _two("mg", "two_rows", ink=(WHITE, SILVER), paper=(BLACK,), fonts="any", weight=0.2),
    _two("cm", "two_rows", paper=(ORANGE,), weight=0.2),
    _two("bj", "two_rows", fonts="any", weight=0.1),
    _two("mu", "two_rows", paper=(WHITE, YELLOW), fonts="gb", weight=0.1),
)  # fmt: skip

ONE_ROW = (*US, *CANADA, *EUROPE, *BRITAIN, *ASIA, *OCEANIA, *AMERICAS, *AFRICA)
DESIGNS = (*ONE_ROW, *TWO_ROWS)
US_SHARE = 0.35
"""Share of US designs among rendered one-row plates: fifty designs need more than one country's share."""

_CONSONANTS, _VOWELS = "BCDFGHJKLMNPRSTVWXYZ", "AEIOU"


@dataclasses.dataclass(frozen=True)
class Token:
    """A piece of a row.

    `kind` is char, stack (small, on each other), small (not text), gap, dash, dot or emblem.
    """

    kind: str
    text: str = ""


_DIGITS = {"#": (0, 10), "%": (1, 10)}
"""The digits that a pattern's signs stand for: from, and up to but not."""


def fill_pattern(pattern: str, letters: str, rng: np.random.Generator) -> tuple[list[list[Token]], str]:
    """Draw a text of a pattern (see regions.toml): its rows of tokens, and what a reader answers."""
    rows: list[list[Token]] = [[]]
    for part in re.findall(r"\{[^}]*\}|<[^>]*>|.", pattern):
        if part == "|":
            rows.append([])
            continue
        kind = {
            "{": "stack",
            "<": "small",
            " ": "gap",
            "-": "dash",
            ".": "dot",
            "/": "gap",
            "*": "emblem",
        }.get(part[0], "char")
        inner = part.strip("{}<>") if kind in ("stack", "small") else part
        text = "".join(
            rng.choice(list(letters))
            if symbol == "@"
            else str(rng.integers(*_DIGITS[symbol]))
            if symbol in _DIGITS
            else symbol
            for symbol in inner
        )
        rows[-1].append(Token(kind, text))
    answer = "".join(token.text for row in rows for token in row if token.kind in ("char", "stack"))
    return rows, answer


def vanity_pattern(rng: np.random.Generator) -> str:
    """Draw a text that an owner could have chosen: something to pronounce, perhaps with digits.

    Or one of a special series, whose small stacked letters and emblem stand before or behind the number.
    """
    if rng.random() < 0.45:
        stack = "{" + str(rng.choice(["@@", "@@", "@@@", "##", "@#"])) + "}"
        number = str(rng.choice(["####", "###", "#####", "###@", "##@##", "### ###", "@###"]))
        parts = [stack, number] if rng.random() < 0.75 else [number, stack]
        return ("*" if rng.random() < 0.4 else "") + str(rng.choice(["", " "])).join(parts)
    length = int(rng.integers(2, 8))
    if rng.random() < 0.35:
        return "".join(rng.choice(["@", "#"], p=[0.6, 0.4]) for _ in range(length))
    start = int(rng.integers(2))
    word = "".join(str(rng.choice(list((_CONSONANTS, _VOWELS)[(start + i) % 2]))) for i in range(length))
    if length < 7 and rng.random() < 0.4:
        word += str(rng.choice([" ", ""])) + str(rng.choice(["#", "##"]))[: 7 - length]
    return word
