"""What can be run: every task with its family, its size of model and its budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.synthetic import kinds
from bench.synthetic.kinds import Family
from bench.synthetic.languages import LANGUAGES, language_task
from bench.synthetic.learner import Recipe
from bench.synthetic.mad import BASELINES, Setting, mad_task, settings
from bench.synthetic.recall import RECALL, recall_task
from bench.synthetic.task import Task


@dataclass(frozen=True, slots=True)
class Entry:
    """A task that can be run. `group` is the column of the table: several settings of one MAD task share it."""

    family: Family
    name: str
    group: str
    task: Callable[[int], Task]
    recipe: Recipe

    def recipe_of(self, kind: str, budget: float) -> Recipe:
        """The recipe at the kind's learning rate, with `budget` times the steps."""
        recipe = _of_hope(self.recipe) if kind in kinds.HOPES and self.family == "languages" else self.recipe
        return replace(recipe.times(budget), rate=kinds.rate(kind, self.family))


COUNTING = Recipe(steps=5_000, batch=32, check_every=100, calm=4)
SHORT_FIRST = replace(COUNTING, first=8)  # cycles are learned on short words; counters that see short ones first do not extrapolate
LANGUAGE_RECIPES = {
    **dict.fromkeys(("parity", "(aa)*", "(abab)*"), SHORT_FIRST),
    "shuffle-2": replace(COUNTING, calm=8),  # its hardest words are rare: a few perfect checks are not yet all words right
}
MAD = Recipe(steps=20_000, batch=128, warmup=200, check_every=500)  # MAD's 200 epochs of 12,800 rows
RECALLING = Recipe(steps=8_000, batch=64, warmup=200, check_every=200)


def _of_hope(recipe: Recipe) -> Recipe:
    """Few steps, for each goes token by token; a count has to bear noise on what is read."""
    first = 6 if recipe.first else None
    steps = 2_000 if recipe.calm > 4 else 500
    return replace(recipe, steps=steps, batch=16, first=first, noise=0.1, warmup=20, check_every=25, calm=2)


def entries(wanted: Sequence[str] = (), *, harder: bool = False) -> list[Entry]:
    """The tasks of these families and of these names; all of them when nothing is named. `harder`: all settings of MAD, not one each.

    Raises:
        ValueError: a name that is neither.
    """
    every = [*_languages(), *_mad(harder), *_recall()]
    known = list(dict.fromkeys(label for entry in every for label in (entry.family, entry.group)))
    if odd := [name for name in wanted if name not in known]:
        raise ValueError(f"there is no task {odd[0]!r}; there are {', '.join(known)}")
    return [entry for entry in every if not wanted or entry.family in wanted or entry.group in wanted]


def _languages() -> list[Entry]:
    return [
        Entry("languages", name, name, lambda seed, name=name: language_task(name, seed), LANGUAGE_RECIPES.get(name, COUNTING))  # type: ignore[misc]
        for name in LANGUAGES
    ]


def _mad(harder: bool) -> list[Entry]:
    every = [setting for base in BASELINES for setting in (settings(base) if harder else settings(base)[:1])]
    return [Entry("mad", setting.name, setting.task, _of(setting), MAD) for setting in every]


def _of(setting: Setting) -> Callable[[int], Task]:
    return lambda seed: mad_task(setting, seed)


def _recall() -> list[Entry]:
    return [Entry("recall", name, name, lambda seed, name=name: recall_task(name, seed), RECALLING) for name in RECALL]  # type: ignore[misc]
