"""The one exception for bad input: a single sentence that says what is wrong and what would be right."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a user. The message is one sentence, printed as it stands; the exit status is 2."""


def unknown(what: str, word: str, choices: Iterable[str], where: str = "") -> InputError:
    """The error for a word outside a closed list: names the place, the word and the nearest valid choice."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(word).lower(), [c.lower() for c in choices], n=1, cutoff=0.5)
    meant = [c for c in choices if c.lower() in near]
    hint = f"did you mean '{meant[0]}'?" if meant else "valid: " + ", ".join(choices) + "."
    return InputError(f"{where + ': ' if where else ''}unknown {what} '{word}'; {hint}")
