"""Whether the classes can be told apart by how their pictures were made instead of by what they show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivetrain.imaging.style import STYLE_FLAGS

from .findings import Finding, Picture, count_of, share_of

__all__ = ["find_style_faults", "share_styles"]

_ALPHA = 0.01  # chance of any false alarm in one run, over all tests (Holm)
_GAP = 0.2  # difference of shares below which a real difference does no harm worth a warning
_FEWEST = 8  # pictures of a class that are worth a test
_EXAMPLES = 12
# flag -> what the pictures are, in a sentence
_WORDS = {
    "dark": "dark",
    "bright": "overexposed",
    "flat": "of little contrast",
    "blurred": "blurred",
    "small": "smaller than 128 pixels",
    "grey": "without colour",
    "drawn": "drawn, not photographed",
}


@dataclass(frozen=True, slots=True)
class _Trait:
    """Something a picture has or has not."""

    kind: str  # "style", "format", "camera" or "day"
    name: str
    words: str  # "<share> are ..."


@dataclass(frozen=True, slots=True)
class _Excess:
    """One class that has a trait far more, or far less, often than the others."""

    trait: _Trait
    label: str
    n_has: int
    n: int
    rest_has: int
    rest: int
    p_value: float

    @property
    def gap(self) -> float:
        return self.n_has / self.n - self.rest_has / self.rest


def share_styles(pictures: Sequence[Picture]) -> dict[str, dict[str, float]]:
    """class -> flag -> share of its pictures, for the flags that any picture has."""
    shown = [flag for flag in STYLE_FLAGS if any(flag in picture.facts.style.flags for picture in pictures)]
    of = _group(pictures)
    return {
        label: {flag: sum(flag in picture.facts.style.flags for picture in group) / len(group) for flag in shown}
        for label, group in of.items()
    }


def find_style_faults(pictures: Sequence[Picture]) -> list[Finding]:
    """A trait concentrated in a class, and how many pictures are dark, blurred, drawn and so on."""
    traits = {picture.item.path: _traits(picture) for picture in pictures}
    excesses = _find_excesses(pictures, traits)
    found = [_describe_mix(tests, pictures, traits) for tests in _by_finding(excesses)]
    mixed = {trait.name for trait in excesses if trait.kind == "style"}
    found += [one for flag in STYLE_FLAGS if (one := _describe_flag(flag, pictures, is_mixed=flag in mixed))]
    return found


def _group(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    of: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        of[picture.item.label].append(picture)
    return dict(sorted(of.items()))


def _traits(picture: Picture) -> set[_Trait]:
    facts = picture.facts
    found = {_Trait("style", flag, f"are {_WORDS[flag]}") for flag in facts.style.flags}
    found.add(_Trait("format", facts.format, f"are {facts.format} files"))
    camera = facts.origin.camera
    found.add(_Trait("camera", camera, f"come from the camera {camera!r}" if camera else "do not name their camera"))
    if day := facts.origin.taken[:10]:
        found.add(_Trait("day", day, f"were taken on {day}"))
    return found


def _find_excesses(pictures: Sequence[Picture], traits: Mapping[str, set[_Trait]]) -> dict[_Trait, list[_Excess]]:
    """Trait -> the classes that stand out by it; of two classes only the one that has it."""
    from scipy.stats import fisher_exact  # late: 0.4 s

    of = {label: group for label, group in _group(pictures).items() if len(group) >= _FEWEST}
    if len(of) < 2:
        return {}
    n_all = sum(map(len, of.values()))
    counts = {
        label: Counter(trait for picture in group for trait in traits[picture.item.path]) for label, group in of.items()
    }
    totals: Counter[_Trait] = sum(counts.values(), Counter())
    tests: list[_Excess] = []
    for trait, total in totals.items():
        for label, group in of.items():
            n, n_has = len(group), counts[label][trait]
            rest, rest_has = n_all - n, total - n_has
            if abs(n_has / n - rest_has / rest) < _GAP:  # what is tested is chosen by size, the p-value pays for all
                continue
            p_value = float(fisher_exact([[n_has, n - n_has], [rest_has, rest - rest_has]]).pvalue)
            tests.append(_Excess(trait, label, n_has, n, rest_has, rest, p_value))
    kept: dict[_Trait, list[_Excess]] = defaultdict(list)
    n_tests = len(totals) * len(of)
    for rank, test in enumerate(sorted(tests, key=lambda test: test.p_value)):
        if test.p_value * (n_tests - rank) > _ALPHA:
            break
        kept[test.trait].append(test)
    return _tidy(kept)


def _tidy(kept: Mapping[_Trait, list[_Excess]]) -> dict[_Trait, list[_Excess]]:
    """Who has a trait is told, who lacks it only where nobody has it more; the plainest difference first."""
    tidy: dict[_Trait, list[_Excess]] = {}
    for trait, tests in kept.items():
        chosen = [test for test in tests if test.gap > 0] or tests
        tidy[trait] = sorted(chosen, key=lambda test: (-abs(test.gap), test.label))
    named = {trait.kind for trait in tidy if trait.name}
    return {
        trait: tests
        for trait, tests in sorted(tidy.items(), key=lambda pair: _rank(pair[0], pair[1][0]))
        # that a class has no camera's name says nothing beside the other class's camera
        if trait.name or "camera" not in named
    }


def _rank(trait: _Trait, test: _Excess) -> tuple[float, bool, str, str]:
    """The plainest difference first; of equals what a class has (all are PNG) before what it lacks (none are JPEG)."""
    return -abs(test.gap), test.gap < 0, trait.kind, trait.name


def _by_finding(excesses: Mapping[_Trait, list[_Excess]]) -> list[list[_Excess]]:
    """Each style by itself; all cameras in one finding, all days, all formats: of two classes each has its own."""
    found: dict[object, list[_Excess]] = defaultdict(list)
    for trait, tests in excesses.items():
        found[trait if trait.kind == "style" else trait.kind] += tests
    return list(found.values())


def _describe_mix(tests: Sequence[_Excess], pictures: Sequence[Picture], traits: Mapping[str, set[_Trait]]) -> Finding:
    first = tests[0]
    trait = first.trait
    of = _group(pictures)
    shares = {
        label: sum(trait in traits[picture.item.path] for picture in group) / len(group) for label, group in of.items()
    }
    if first.gap > 0:
        other = min((label for label in of if label != first.label), key=lambda label: (shares[label], label))
    else:
        other = max((label for label in of if label != first.label), key=lambda label: (shares[label], label))
    n_other = sum(trait in traits[picture.item.path] for picture in of[other])
    counter = {
        "style": f"'{_WORDS.get(trait.name, trait.name)}'",
        "format": f"the traces of {trait.name}",
        "camera": "the camera",
        "day": "the light and place of that day",
    }[trait.kind]
    instead = f"{'the lack of ' if first.gap < 0 else ''}{counter}"
    return Finding(
        code=f"{trait.kind}_mix",
        severity="warning",
        what=f"In class {first.label!r} {share_of(first.n_has, first.n)} {trait.words}, in {other!r} "
        f"{share_of(n_other, len(of[other]))}.",
        why=f"The model may learn {instead} instead of {first.label!r}, and fail where pictures are made otherwise.",
        next_step="Gather pictures of each class made in the same ways, and test on pictures from elsewhere.",
        count=first.n_has if first.gap > 0 else first.n - first.n_has,
        groups=_examples(pictures, trait, traits, first),
        details=tuple(
            f"{test.label}: {test.n_has:,} of {test.n:,} {test.trait.words}, of the others {test.rest_has:,} of "
            f"{test.rest:,}"
            for test in tests
        ),
    )


def _examples(
    pictures: Sequence[Picture], trait: _Trait, traits: Mapping[str, set[_Trait]], test: _Excess
) -> tuple[tuple[str, ...], ...]:
    has = test.gap > 0
    paths = [
        picture.item.path
        for picture in pictures
        if picture.item.label == test.label and (trait in traits[picture.item.path]) is has
    ]
    return tuple((path,) for path in paths[:_EXAMPLES])


def _describe_flag(flag: str, pictures: Sequence[Picture], *, is_mixed: bool) -> Finding | None:
    has = [picture for picture in pictures if flag in picture.facts.style.flags]
    if not has or is_mixed:
        return None
    per_class = Counter(picture.item.label for picture in has)
    return Finding(
        code=f"style_{flag}",
        severity="note",
        what=f"{count_of(len(has), 'picture is', 'pictures are')} {_WORDS[flag]}, "
        f"{share_of(len(has), len(pictures))} of {len(pictures):,}.",
        why={
            "small": "The network sees 224 pixels a side: what is enlarged looks blurred to it.",
            "drawn": "If none will be drawn in use, these teach the wrong look.",
        }.get(flag, "If pictures in use are not so, these teach little; if they are, keep them, and have enough."),
        next_step="Look at them; leave out what nobody could label.",
        count=len(has),
        groups=tuple((picture.item.path,) for picture in has),
        details=tuple(f"{label}: {n:,}" for label, n in per_class.most_common()),
    )
