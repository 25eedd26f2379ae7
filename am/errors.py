"""The one exception for bad input: a single sentence that says what is wrong and what would be right."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a user. The message is one sentence, printed as it stands; the exit status is 2."""


def unknown(what: str, word: str, choices: Iterable[str], where: str = "") -> InputError:
    """The error for a word outside a closed list: names the place, the word and the nearest valid choice."""
    choices = sorted(choices)
    likeness = lambda choice: difflib.SequenceMatcher(None, choice.lower(), str(word).lower()).ratio()
    meant = max(choices, key=likeness, default="")  # the first of equals
    near = meant and likeness(meant) >= 0.5
    hint = f"did you mean '{meant}'?" if near else "valid: " + ", ".join(choices) + "."
    return InputError(f"{where + ': ' if where else ''}unknown {what} '{word}'; {hint}")
