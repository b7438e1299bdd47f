"""Prompts of ordinary words, made to a number of tokens by what the server counts."""

from dataclasses import dataclass

import numpy as np

# Short and common: each is one token of nearly every vocabulary, with the space before it.
_TEXT = """
about after again all also always another any around ask away back because before best better between big both book
boy call came can car change child city close cold come could country day did different does done door down each
early earth end even ever every eye face fact family far father feel few find first follow food form found four
friend from full game gave girl give good great group grow half hand hard head hear help here high hold home hour
house idea important into job just keep kind knew know land large last late learn leave left less life light like
line list little live long look love made make man many may mean men might mind money more morning most mother move
much music must name near need never new next night number of off often old one only open order other our out over
own page paper part people person place plan play point power problem public put question read real right river room
run said same saw say school second see seem set she should show side since small some soon start state still story
street study such sun system take talk teach tell than that their them then there these they thing think this those
thought three time today together told too took town tree try turn two under until up upon use very voice wait walk
want war watch water way week well went were what when where which while white who why will with woman wood word
work world would write year yes you young your
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class WordCount:
    """How a server counts: ``fixed`` tokens of its template, and ``per_word`` for each word."""

    fixed: float = 0.0
    per_word: float = 1.0

    @classmethod
    def of(cls, few: tuple[int, int], many: tuple[int, int]) -> "WordCount":
        """From two prompts, each as (words, tokens)."""
        per_word = max(0.1, (many[1] - few[1]) / (many[0] - few[0]))
        return cls(few[1] - per_word * few[0], per_word)

    def words(self, tokens: int) -> int:
        """Words that make a prompt of so many tokens; at least one."""
        return max(1, round((tokens - self.fixed) / self.per_word))


def make_text(words: int, seed: tuple[int, ...]) -> str:
    """Random words: no two prompts share a beginning that a server may have cached."""
    chosen = np.random.default_rng(seed).choice(len(_WORDS), words)
    return " ".join(_WORDS[place] for place in chosen)
