"""Countries by their two letters (ISO 3166-1) and the groups that policies may name.

Members are as of ``GROUPS_DATE``; a group's members change with a release of this program and
never by themselves, so that the same policy means the same nodes until somebody upgrades.
"""

GROUPS_DATE = "2026-01-01"
"""The day for which the members of all groups were checked."""

_CODES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT
BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH
ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT
HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS
LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI
NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG
SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG
UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES = frozenset(_CODES.split())
"""Every code that ISO 3166-1 assigns."""

_EU = (
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"  # since 2020
)
GROUPS: dict[str, frozenset[str]] = {
    "EU": frozenset(_EU.split()),
    "EEA": frozenset(_EU.split()) | frozenset(("IS", "LI", "NO")),
    "EFTA": frozenset(("CH", "IS", "LI", "NO")),
    "DACH": frozenset(("AT", "CH", "DE")),
    "BENELUX": frozenset(("BE", "LU", "NL")),
    "NORDICS": frozenset(("DK", "FI", "IS", "NO", "SE")),
    "BALTICS": frozenset(("EE", "LT", "LV")),
    "FIVE_EYES": frozenset(("AU", "CA", "GB", "NZ", "US")),
}
"""Groups by name. None of the names is a country's code."""


def is_place(word: str) -> bool:
    """Say whether a word is a country's code or a group's name, in capitals."""
    return word in COUNTRIES or word in GROUPS


def members(word: str) -> frozenset[str]:
    """Return the countries of a group, or the one country. Empty for anything else."""
    found = GROUPS.get(word)
    if found is not None:
        return found
    return frozenset((word,)) if word in COUNTRIES else frozenset()
