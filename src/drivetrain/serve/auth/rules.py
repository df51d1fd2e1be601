"""Who may go where: the one table. A path that is not in it needs the role admin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

__all__ = ["KNOWN", "PUBLIC", "RULES", "Rule", "rule_for"]

PUBLIC = "public"  # anyone, and nobody looks who it is
KNOWN = "known"  # whoever has proved who they are, with any role


@dataclass(frozen=True)
class Rule:
    """One row. In `pattern`, `*` is one part of a path and `**` one or more."""

    methods: str  # with spaces; GET is HEAD too
    pattern: str
    role: str  # several with spaces: any of them opens it
    is_page: bool = False  # a browser that is not signed in is led to the login page
    any_host: bool = False  # probes ask by address, whatever the host is called
    is_open_here: bool = False  # also to whoever asks from this machine, without a key

    @cached_property
    def regex(self) -> re.Pattern[str]:
        parts = re.split(r"(\*\*|\*)", self.pattern)
        return re.compile("".join({"**": ".+", "*": "[^/]+"}.get(part, re.escape(part)) for part in parts), re.DOTALL)

    def fits(self, method: str, path: str) -> bool:
        """Whether it speaks of this method and this path, letter for letter."""
        asked = "GET" if method == "HEAD" else method
        return asked in self.methods.split() and self.regex.fullmatch(path) is not None


# The first row that fits wins.
RULES = (
    Rule("GET", "/health/live", PUBLIC, any_host=True),
    Rule("GET", "/health/ready", PUBLIC, any_host=True),
    Rule("GET", "/v2/health/live", PUBLIC, any_host=True),
    Rule("GET", "/v2/health/ready", PUBLIC, any_host=True),
    Rule("GET", "/static/**", PUBLIC),
    Rule("GET POST", "/login", PUBLIC),
    Rule("POST", "/logout", KNOWN),
    Rule("GET", "/", "predict", is_page=True),
    Rule("POST", "/", "predict"),
    Rule("GET", "/card", "predict", is_page=True),
    Rule("GET", "/docs", "predict", is_page=True),
    Rule("GET", "/examples/**", "predict"),
    Rule("GET", "/openapi.json", "predict"),
    Rule("GET", "/model", "predict"),
    Rule("GET", "/models", "predict"),
    Rule("POST", "/predict", "predict"),
    Rule("POST", "/explain", "predict"),
    Rule("POST", "/feedback/*", "predict"),
    Rule("GET", "/predictions/*", "predict"),
    Rule("GET", "/review", "review approve", is_page=True),
    Rule("GET", "/review/next", "review", is_page=True),
    Rule("GET", "/review/**", "review", is_page=True),
    Rule("POST", "/review/**", "review"),
    Rule("GET POST", "/v2/repository/**", "admin"),
    Rule("GET", "/v2", "predict"),
    Rule("GET", "/v2/models/**", "predict"),
    Rule("POST", "/v2/models/**/infer", "predict"),
    Rule("GET", "/rollouts", "review approve", is_page=True),
    Rule("GET", "/rollouts/**", "review approve", is_page=True),
    Rule("POST", "/rollouts/*/hold", "review approve"),
    Rule("POST", "/rollouts/*/rollback", "review approve"),
    Rule("POST", "/rollouts/**", "approve"),
    Rule("GET", "/versions", "review approve", is_page=True),
    Rule("GET", "/metrics", "admin", is_open_here=True),
    Rule("GET", "/admin", "admin", is_page=True),
    Rule("GET", "/admin/**", "admin", is_page=True),
    Rule("POST", "/admin/**", "admin"),
)
_ADMIN_ONLY = Rule("", "", "admin")


def _search(method: str, path: str) -> Rule:
    return next((rule for rule in RULES if rule.fits(method, path)), _ADMIN_ONLY)


# what the search finds for the paths without a star: most requests, at a tenth of its cost
_PLAIN = {
    (method, rule.pattern): _search(method, rule.pattern)
    for rule in RULES
    if "*" not in rule.pattern
    for method in rule.methods.split()
}


def rule_for(method: str, path: str) -> Rule:
    """The row for a request; `path` is decoded once, as the router sees it."""
    return _PLAIN.get((method, path)) or _search(method, path)
