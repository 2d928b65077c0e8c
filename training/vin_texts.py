"""What is written on cars: VINs as makers make them up, and the lines that stand beside them."""

from __future__ import annotations

import numpy as np

from carsight.vin.rules import ALPHABET, check_digit

Rng = np.random.Generator

# Maker's prefix and the pattern of the rest: # digit, @ letter, * either, Y model year, = the check digit.
_PATTERNS: dict[str, str] = {
    "zzz": """
        WVWZZZ@@ZY@###### WVWZZZ#@ZY@###### WV1ZZZ#@ZY@###### WV2ZZZ#@ZY@###### WVGZZZ#@ZY@######
        WAUZZZ#@#Y@###### WAUZZZ@#*Y@###### WP1ZZZ#*ZY@@##### WP0ZZZ##ZY@###### TMBZZZ#@ZY@######
        TMB@@#@@*Y@###### VSSZZZ#@ZY@###### XW8ZZZ#@ZY@###### XW8ZZZ@@ZY@###### XW8AC2NH#YK######
        XW8@@#@@#Y@###### TRUZZZ#@#Y@###### 3VWZZZ#@ZY@###### XW8AN4N*#Y@######
    """,
    "europe": """
        W0L0@@@######@### W0L0@@@########## W0LP@#@@######### W0VZ@#@#*######## WDB#######@######
        WDD#######@###### WDC#######@###### WDF#######@###### W1K#######@###### WBA@@#######@####
        WBA##@@########## WBS@@#######@#### WF0@XX@@@@Y@##### WF0*XXG@**Y@##### WMW@@#######@####
        WME#######@###### VF1@@@@#########@ VF1*@***######### VF3##@##@######## VF3*****@########
        VF7#@###@######## VF7*****@######## VR3*****@######## UU1*@***######### ZFA###00000######
        ZAR###000######## YV1@@######2##### YV4@@######1##### YS3@@##@######### SAL@@##@#@@######
        SAJ@@##@#@@###### SB1@@##@######### SJN@@##@######### TSM@@@##@######## SHH@@#####U######
        VNK@@#####@###### U5Y@@###@@@###### U6Y@@###@@@###### TMA@@###@@@###### NMT@@##@#########
        NM0@XX@@@@Y@##### VSK@@@@########## VSS@@@@@######### VN1@@@@########## VV9##############
    """,
    "russia": """
        XWE@@###@@@###### XWEFC41#*@####### XWEH@@##@@000#### XWEE25##@@@###### XWEKN81#@@000####
        XWF@@@@@@@@###### XWB#@##@@@@###### XTA@@#####@###### XTAGFL110@@###### XTAKS0@5L@#######
        XTA###########*** X7L@@@@@@######## X7LASRA########## X7LHSRG@N######## X9L##########****
        X9L212300######## X9F*XX@@@@Y@##### X4X@@#####@@##### X96############## XTH##############
        XTT############## XW7@@##@#0@###### XUF@@####@@###### XUU@@###@@@###### X2M@@@@@@@@######
        XZG@@##@#@@###### XZGFF##@#MA###### Z94@@##@@@@###### Z94C241@@@@###### Z94K241CBNR######
        Z8T@@@@@@@@###### Z8N@@@@########## Z6F*XX@@@@Y@##### RUMK@@#*#@@###### Y4K#####@@@######
        Y3W@@@@@*######## MX1@@####@@###### MX1TF69V9MA###### MXC@@@@@*@@###### XWK@@#####@######
        XWW@@@@@*@@###### XW9############## X3X@@#####@@#####
    """,
    "checked": """
        1G1@@###=Y####### 1GC@@@@#=Y@###### 1FM@@##@=Y@@##### 1FA@@#@*=Y####### 1FT@@#@*=Y@@#####
        1HG@@#@##Y@###### 1HGCM#@##Y@###### 1N4@@#@@=Y@###### 1J4@@###=Y@###### 1C4@@@@@=Y@######
        1C6@@#@@=Y@###### 1D7@@##@=Y@###### 1VW@@#@#=Y@###### 1B3@@##@=Y@###### 1GT@@@@#=Y@######
        1GN@@@@#=Y@###### 1M1@@##@=Y@###### 1XP@@#@@=Y@###### 2HG@@#@##Y@###### 2HG@@#@*=Y@######
        2T1@@##@=Y@###### 2T3@@@@@=Y@###### 2C3@@@@@=Y@###### 2G1@@###=Y####### 2FM@@##@=Y@@#####
        3VW@@#@@=Y@###### 3N1@@#@@=Y@###### 3FA@@#@*=Y@@##### 3GN@@@@#=Y@###### 4T1@@##@=Y@######
        4S3@@@@#=Y####### 4JG@@#@@=Y@###### 5YJ@@#@#=Y@###### 5UX@@#@#=Y@###### 5XY@@###=Y@######
        5NP@@#@#=Y@###### 5FN@@###=Y@###### 5TD@@##@=Y@###### 5J6@@###=Y@###### 7SA@@#@#=Y@######
        LVV@@###=Y@###### LVVDB11B=MD###### LVVDB21B=MD###### LVTDB2#B=Y@###### LVZA53P9=MC######
        LVZ@@##@=Y@###### LS5A#@##=Y@###### LFB@@###=Y@###### LFV@@#@@=Y@###### LFP@@###=Y@######
        LGX@@###=Y@###### LGW@@###=Y@###### LSV@@#@#=Y@###### LB3@@###=Y@###### LMG@@###=Y@######
        LSJ@@###=Y@###### LBE@@###=Y@###### LJD@@###=Y@###### LHG@@###=Y@###### JHL@@###=Y@######
        JHM@@###=Y@###### JN1@@##@=Y@###### JTD@@##@=Y@###### JTE@@##@=Y@###### JTM@@##@=Y@######
        JM1@@###=Y@###### JF1@@###=Y@###### KMH@@##@=Y@###### KM8@@##@=Y@###### KNA@@###=Y@######
        KND@@###=Y@###### WBA@@#@#=Y@###### WA1@@#@@=Y@###### WVW@@#@@=Y@###### WDD@@#@@=Y@######
        YV1@@###=Y####### SAL@@##@=Y@###### ZFF@@##@=Y#######
    """,
    "asia": """
        JMB@@@#@@######## JMB@@@@@@@@###### JMZ@@#####@###### JM7@@#####@###### JN1@@@@@@@#######
        JSA@@@##@######## JTJ@@##@######### JTMKD31V######### JT1@@##@######### JF1@@#@@@@@######
        KMH@@##@@@@###### KMJ@@##@@@@###### KNE@@###@@@###### KN3@@###@@@###### KL1@@##@@@@######
        KPT@@##@@@@###### MAL@@##@@@@###### MA3@@@##@######## MR0@@##@######### 6T1@@##@#########
        6G1@@##@######### 8AG@@####@@###### 8AP############## 9BW@@##@#@@###### 9BG@@####@@######
        93Y@@@@########## AHT@@##@######### AFA@XX@@@@Y@#####
    """,
}
SIGNS = "☆★◇△"
"""What fonts for text seldom hold."""
_YEARS = "ABCDEFGHJKLMNPRSTVWXY123456789"
MAKERS = """\
VOLKSWAGEN AG
ADAM OPEL AG
OPEL
DAIMLERCHRYSLER AG
DAIMLER AG
BMW AG
AUDI AG
RENAULT
AUTOMOBILES PEUGEOT
AUTOMOBILES CITROEN
TOYOTA MOTOR CORPORATION
HYUNDAI MOTOR COMPANY
KIA MOTORS
MITSUBISHI MOTORS CORPORATION
Mazda Motor Corporation
NISSAN MOTOR CO., LTD.
CHERY AUTOMOBILE CO.,LTD.CHINA
CHINA FIRST AUTOMOBILE GROUP COMPANY
GEELY
VAUXHALL MOTORS LTD
FORD MOTOR COMPANY
SKODA AUTO a.s.
VOLVO
ООО «ЗАВОД»
ООО "ЭЛЛАДА"
ЗАО «АВТОЗАВОД»
ПАО «ЗАВОД»
ООО «МОТОР РУС»
АВТОЗАВОД
FABRIQUE EN FRANCE
HONDA MOTOR CO., LTD.
FUJI HEAVY INDUSTRIES LTD.
TESLA, INC.
GENERAL MOTORS LLC
MFD. BY FCA US LLC
Mercedes-Benz
SUZUKI MOTOR CORPORATION
""".splitlines()
_SENTENCES = """\
THIS VEHICLE CONFORMS TO ALL APPLICABLE
FEDERAL MOTOR VEHICLE SAFETY AND
BUMPER STANDARDS IN EFFECT ON THE DATE
OF MANUFACTURE SHOWN ABOVE
SAFETY, BUMPER AND THEFT PREVENTION
Идентификационный номер
разрешенная максимальная масса
ДВИГАТЕЛЬ
MADE IN GERMANY
Made in Belarus
TYPE: PASSENGER CAR
NAMEPLATE
ПРЕДПРИЯТИЕ ИЗГОТОВИТЕЛЬ
VEHICLE IDENTIFICATION NUMBER
Gross vehicle weight
TIRE AND LOADING INFORMATION
SEATING CAPACITY
COLD TIRE INFLATION PRESSURE
Fahrgestellnummer
numero de chassis
COLOR TRIM AXLE TRANS
""".splitlines()


# Lines without a VIN: # is a digit, @ a letter.
_OTHER = """\
e##*98/14*####*##
e#*2001/116*####*##
e#*2007/46*####*##
e##*KS07/46*####*##
TC RU E-RU.MT02.#####
TC RU E-CN.MT42.#####.P#
E-RU.АЯ04.B.#####
РОСС RU.MT02.E#####
1##0 kg
2##5 kg
2##0 KG
1- ##0 kg
2- 1##0 kg
1-0##0
2-1##5 Kg
1- 1##0 кг
2##0 кг
GVWR 5##0 LB
GAWR FRT 2##5 LB
P2#5/#5R1# 9#H 230 KPA / 33 PSI
1#5/65R15 88T 2.# BAR
+# (###) ###-##-##
1-800-###-####
MODEL @@@##-@#@@@
TYP ##@
TYPE @@##
ENGINE @#@@
МОДЕЛЬ ###@
COLOR @#@ TRIM @@##
Z2@@ @@@@
###@##@ ###
C/TR @#@@-##
DATE 0#/20##
MFD 1#-20##
Production Date 0#.20##
0#/1#
""".splitlines()


def draw_vin(rng: Rng) -> str:
    """Return a VIN as makers write them: most from a known pattern, one in six any 17 characters at all."""
    if rng.random() < 0.16:
        weights = np.where([c.isdigit() for c in ALPHABET], 1.6, 1.0)
        return "".join(rng.choice(list(ALPHABET), 17, p=weights / weights.sum()))
    kind = str(rng.choice(list(_PATTERNS), p=(0.2, 0.17, 0.25, 0.3, 0.08)))
    pattern = str(rng.choice(_PATTERNS[kind].split()))
    if kind != "checked" and rng.random() < 0.25:  # other makers of the same kind
        pattern = pattern[:2] + _fill("*", rng) + pattern[3:]
    if rng.random() < 0.2:  # and other habits
        at = int(rng.integers(3, 9))
        pattern = pattern[:at] + "*" + pattern[at + 1 :]
    vin = _fill(pattern, rng)
    return vin[:8] + check_digit(vin) + vin[9:] if kind == "checked" else vin


def _fill(pattern: str, rng: Rng) -> str:
    draw: dict[str, str] = {"#": "0123456789", "@": ALPHABET[10:], "*": ALPHABET, "Y": _YEARS, "=": "0"}
    # a letter that belongs to the maker's prefix stays, even where it is a sign of the pattern
    head, tail = pattern[:3], pattern[3:]
    return head.replace("*", str(rng.choice(list(ALPHABET)))) + "".join(
        str(rng.choice(list(draw[c]))) if c in draw else c for c in tail
    )


def draw_other(rng: Rng) -> str:
    """Return a line of the same labels that is no VIN: approvals, weights, tires, telephones, sentences."""
    if rng.random() < 0.2:
        return str(rng.choice(_SENTENCES if rng.random() < 0.5 else MAKERS))
    letters = {"#": "0123456789", "@": ALPHABET[10:]}
    return "".join(str(rng.choice(list(letters.get(c, c)))) for c in str(rng.choice(_OTHER)))
