"""The formats of strings and numbers in JSON schemas: which a model can be held to, and by what answers are checked.

Beside those of JSON Schema itself they are the ones that pydantic and zod write.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping

# Formats of strings: whether llguidance knows them. The others are only checked, or mean nothing for a text.
FORMATS: Mapping[str, bool] = {
    **dict.fromkeys(
        ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"], True
    ),
    **dict.fromkeys(["uri-reference", "uri-template", "iri", "iri-reference", "idn-email", "idn-hostname"], False),
    **dict.fromkeys(["json-pointer", "relative-json-pointer", "regex"], False),
    **dict.fromkeys(["password", "binary", "path", "file-path", "directory-path", "json-string"], False),
    **dict.fromkeys(["ipvanynetwork", "ipvanyinterface"], False),
}

_HEX = "[0-9a-fA-F]"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"


def _uuid(version: str) -> str:
    return f"^{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}$"


# Those that can be written as a regular expression.
PATTERNS: Mapping[str, str] = {
    **{f"uuid{number}": _uuid(str(number)) for number in range(1, 9)},
    "guid": f"^{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}$",
    "ipv4network": f"^{_BYTE}(?:\\.{_BYTE}){{3}}/(?:3[0-2]|[12]?[0-9])$",
    "ipv4interface": f"^{_BYTE}(?:\\.{_BYTE}){{3}}(?:/(?:3[0-2]|[12]?[0-9]))?$",
    "ipv6network": "^[0-9a-f:]{2,39}/[0-9]{1,3}$",
    "ipv6interface": "^[0-9a-f:]{2,39}(?:/[0-9]{1,3})?$",
    "cidrv6": "^[0-9a-f:]{2,39}/[0-9]{1,3}$",
    "cidrv4": f"^{_BYTE}(?:\\.{_BYTE}){{3}}/(?:3[0-2]|[12]?[0-9])$",
    "base64": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    "byte": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    "base64url": "^[A-Za-z0-9_-]*={0,2}$",
    "e164": "^\\+[1-9][0-9]{6,14}$",
    "nanoid": "^[A-Za-z0-9_-]{21}$",
    "cuid": "^[cC][0-9a-z]{8,}$",
    "cuid2": "^[0-9a-z]+$",
    "ulid": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
    "multi-host-uri": "^[a-z][a-z0-9+.-]*://[!-~]+$",
    "jwt": "^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]*$",
    "ksuid": "^[A-Za-z0-9]{27}$",
    "xid": "^[0-9a-vA-V]{20}$",
    "ipvanyaddress": f"^{_BYTE}(?:\\.{_BYTE}){{3}}$",
}

# What is a format's, and what is written besides: RFC 3339 has a year 0, which most calendars, Python's too, have not.
YEAR = "^(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
NARROWER: Mapping[str, str] = {"date": YEAR, "date-time": YEAR}

# The least and the greatest number; None: any.
NUMBER_FORMATS: Mapping[str, tuple[int, int] | None] = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    **dict.fromkeys(("int64", "uint64", "float", "double", "decimal"), None),
}


def _accepts(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.search(text) is not None


# What the validator does not know by itself.
CHECKS: Mapping[str, Callable[[str], bool]] = {
    **{name: _matches(pattern) for name, pattern in PATTERNS.items()},
    **dict.fromkeys(("ipv6network", "cidrv6"), _accepts(ipaddress.IPv6Network)),
    "ipv6interface": _accepts(ipaddress.IPv6Interface),
    "ipvanyinterface": _accepts(ipaddress.ip_interface),
    "ipvanyaddress": _accepts(ipaddress.ip_address),
    "ipvanynetwork": _accepts(ipaddress.ip_network),
    "json-string": _accepts(json.loads),
}
