"""What is known about VINs without seeing them: the check digit, who must have one, and the makers' prefixes.

The rules of ISO 3779 and 3780 and of 49 CFR 565. They are evidence for ranking readings, never a filter:
most European and Russian VINs have no check digit, and no table of makers is complete.
"""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
"""ISO 3779: no I, O, Q."""

LENGTH = 17

_FOLD = str.maketrans("IOQ", "100")
_VALUE = dict(
    zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "012345678912345678123457923456789"), strict=True)
)
_WEIGHT = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)

CHECK_PLACE = 8
"""Index of the check digit, position 9 of 17."""

_MAKERS = frozenset(
    """
    137 19U 19X 1B3 1B7 1C3 1C4 1C6 1D3 1D4 1D7 1D8 1F1 1FA 1FB 1FC 1FD 1FM 1FT 1FU 1FV 1G1 1G2 1G3 1G4 1G6
    1G8 1GB 1GC 1GD 1GK 1GM 1GN 1GT 1GY 1HD 1HF 1HG 1HT 1J4 1J8 1L1 1LN 1M1 1M2 1M8 1ME 1N4 1N6 1NK 1NP 1NX
    1P3 1VW 1XK 1XP 1YV 1Z3 1ZV 2A4 2A8 2B3 2B4 2B7 2C1 2C3 2C4 2CN 2D4 2D7 2D8 2FA 2FM 2FT 2FZ 2G1 2G2 2G4
    2G6 2GC 2GK 2GN 2GT 2HG 2HH 2HJ 2HK 2HM 2HN 2LM 2LN 2ME 2NV 2P3 2P4 2S2 2S3 2T1 2T2 2T3 3A4 3A8 3AK 3AL
    3B3 3B7 3BP 3C3 3C4 3C6 3C7 3CA 3CZ 3D3 3D7 3FA 3FE 3FM 3FR 3FT 3G1 3G4 3G5 3G7 3GC 3GN 3GS 3GT 3GY 3H1
    3HG 3HM 3KP 3MD 3MV 3MY 3MZ 3N1 3N6 3N8 3P3 3TM 3TY 3VV 3VW 4A3 4A4 4B3 4F2 4F4 4J8 4JG 4M2 4MB 4N2 4S3
    4S4 4S6 4T1 4T3 4T4 4TA 4US 4UZ 4V1 4V4 4V5 4YM 55S 58A 5AS 5BZ 5DE 5FN 5FP 5FR 5GA 5GR 5GT 5GZ 5J6 5J8
    5KB 5KJ 5L1 5LM 5LT 5N1 5N3 5NM 5NP 5S3 5SA 5TB 5TD 5TE 5TF 5UM 5UX 5XX 5XY 5YF 5YJ 5YM 5ZU 6F1 6FP 6G1
    6G2 6H8 6MM 6T1 7FA 7FC 7JR 7JZ 7MM 7MU 7PD 7SA 7SV 7SY 7YA 8A1 8AC 8AD 8AF 8AG 8AJ 8AP 8AT 8AW 8BC 935
    936 93H 93R 93U 93W 93X 93Y 94D 988 98M 9BD 9BF 9BG 9BH 9BM 9BR 9BS 9BW AAV ABM ADM AFA AHT JA3 JA4 JAA
    JAC JAL JD1 JDA JF1 JF2 JH2 JH4 JHL JHM JHZ JKA JM0 JM1 JM3 JM6 JM7 JMB JMY JMZ JN1 JN3 JN6 JN8 JS1 JS2
    JS3 JSA JT1 JT2 JT3 JT4 JT6 JT7 JT8 JTB JTD JTE JTG JTH JTJ JTK JTL JTM JTN JYA KL1 KL3 KL4 KL5 KL7 KL8
    KLA KLT KLY KM8 KMF KMH KMJ KMT KMU KN3 KNA KNC KND KNE KNF KNG KNH KNJ KNM KPA KPB KPT L56 L6T LA6 LB1
    LB2 LB3 LBE LBV LC0 LCN LDC LDN LDP LE4 LEF LEN LFB LFM LFN LFP LFV LGA LGB LGH LGJ LGW LGX LH1 LHA LHG
    LJ1 LJ8 LJC LJD LJN LJU LJX LK6 LL3 LL6 LLV LMG LMV LNB LNN LPS LRB LRW LS4 LS5 LSC LSG LSJ LSV LSY LTV
    LUC LUX LVG LVH LVS LVT LVU LVV LVX LVY LVZ LWV LYU LYV LZW MA1 MA3 MA6 MA7 MAJ MAK MAL MAT MBH MBJ MBR
    MC2 MDH MEE MEX MF3 MHF MHR MHY MM8 MMB MMC MMT MNB MNT MP1 MPA MR0 MR1 MRH MX1 MXB MXC MZ7 NLA NLC NLE
    NLH NLT NM0 NM4 NMA NMB NMT NNA PE1 PL1 PL8 PM2 PMH PMK PNA PNV PP1 RFB RFG RKL RLA RLC RLH RLM RLU RLV
    RP8 RUM SAD SAJ SAL SAR SAX SB1 SCA SCB SCC SCE SCF SDB SFA SFD SHH SHS SJA SJK SJN SMT SUP SUU TK9 TMA
    TMB TMK TMP TMT TRA TRU TSE TSM TYA U5Y U6Y UU1 UU3 UU5 UU6 UZ1 VAG VAN VBK VF1 VF2 VF3 VF4 VF6 VF7 VF8
    VF9 VFA VG6 VLU VN1 VNE VNK VNV VR1 VR3 VR7 VS5 VS6 VS7 VSA VSE VSK VSS VSX VTH VV9 VWA VWV VX1 VXE VXF
    VXK W04 W06 W08 W0L W0S W0V W1K W1N W1T W1V W1W WA1 WAC WAG WAP WAU WB1 WBA WBS WBX WBY WD0 WD2 WD3 WD4
    WD8 WDA WDB WDC WDD WDF WDP WDX WDY WDZ WEB WF0 WF1 WJM WJR WKK WMA WME WMW WMX WP0 WP1 WUA WV1 WV2 WV3
    WV4 WVG WVM WVP WVW X1M X2M X3X X4X X6D X7L X7M X89 X8J X8U X96 X9F X9L X9P X9X XDN XL9 XLB XLE XLR XMC
    XMG XNL XTA XTB XTC XTH XTK XTT XTY XU1 XU5 XUF XUU XW7 XW8 XWB XWE XWF XWK XWW XZB XZG XZE Y3F Y3W Y39
    Y4F Y4K Y6D Y6J Y6L Y6U Y7A Y8A YBW YC1 YE2 YH2 YK1 YS2 YS3 YS4 YSM YSR YT9 YTN YU7 YV1 YV2 YV3 YV4 YV5
    Z0X Z6F Z7C Z7G Z7N Z7Z Z8N Z8T Z8U Z94 Z9L Z9M ZA9 ZAA ZAC ZAM ZAP ZAR ZBB ZBN ZC2 ZCF ZCG ZD0 ZD3 ZD4
    ZDC ZDF ZDM ZFA ZFC ZFF ZFM ZGA ZGU ZHW ZJM ZJN ZKH ZLA
    """.split()  # noqa: SIM905
)
"""World manufacturer identifiers of the makers of most cars on the road (SAE's register is public; ISO
3780)."""

_COMMON = frozenset(
    """
    1C4 1C6 1FA 1FM 1FT 1G1 1GC 1GN 1HG 1J4 1N4 2C3 2HG 2T1 2T3 3FA 3N1 3VW 4T1 5J6 5NP 5TD 5XY 5YJ 7SA JF1
    JHL JHM JMB JMZ JN1 JSA JTD JTE JTJ JTM KMH KNA KND KNE LFV LSV LVS LVT LVV NMT SAL SB1 SJN TMA TMB U5Y
    UU1 VF1 VF3 VF7 VSS W0L W0V W1K WAU WBA WDB WDC WDD WF0 WV1 WV2 WVG WVW X7L X9F X9L XTA XW7 XW8 XWE XZG
    YV1 Z6F Z8N Z8T Z94 ZFA
    """.split()  # noqa: SIM905
)
"""Prefixes of the makers that build a large share of all cars."""

_FILLED = frozenset("TMB TRU VSS WA1 WAU WP0 WP1 WUA WV1 WV2 WV3 WVG WVW XW8".split())  # noqa: SIM905
"""Prefixes of the Volkswagen group, which for Europe writes ZZZ at positions 4-6 where others describe the
car."""


def fold(text: str) -> str:
    """``text`` in capitals with I, O and Q as the digits they are read for."""
    return text.upper().translate(_FOLD)


def is_vin(text: str) -> bool:
    """Whether ``text`` is 17 characters that a VIN may hold."""
    return len(text) == LENGTH and all(character in _VALUE for character in text)


def check_digit(vin: str) -> str:
    """What position 9 of the 17 characters ``vin`` must be (49 CFR 565.15): "0" to "9" or "X"."""
    rest = sum(_VALUE[character] * weight for character, weight in zip(vin, _WEIGHT, strict=True)) % 11
    return "X" if rest == 10 else str(rest)


def is_valid(vin: str) -> bool:
    """Whether the check digit of ``vin`` holds."""
    return is_vin(vin) and vin[CHECK_PLACE] == check_digit(vin)


def check_applies(vin: str) -> bool:
    """Whether ``vin`` must have a check digit: made in or for North America (1-5; 7 is its newer range) or
    China (L).

    49 CFR 565.15 and GB 16735. Makers elsewhere may put anything at position 9.
    """
    return vin[:1] in {"1", "2", "3", "4", "5", "7", "L"}


def known_maker(vin: str) -> bool:
    """Whether the first three characters are a maker's that this module knows. Unknown ones are common
    too."""
    return vin[:3] in _MAKERS


def common_maker(vin: str) -> bool:
    """Whether the first three characters are those of one of the most common makers."""
    return vin[:3] in _COMMON


def breaks_filling(vin: str) -> bool:
    """Whether a Volkswagen group VIN has some, but not all, of the Z that fill positions 4-6: likely a
    misreading."""
    return vin[:3] in _FILLED and 0 < vin[3:6].count("Z") < 3
