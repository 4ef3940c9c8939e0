"""Job: one recipe in one size with one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ancestral.experiments import recipe_files, records
from ancestral.experiments.config import Config
from ancestral.experiments.recipes import Recipe


@dataclass(frozen=True)
class Job:
    """One run of a recipe.

    Attributes
    ----------
    recipe : Recipe
        Recipe of the row.
    size : str
        Name of the size.
    seed : int
        Seed of all random numbers.
    select : bool
        Whether the run is for model selection: trained without the validation rows and scored on
        them instead of the test rows.
    changes : tuple of (name, value)
        Options that override the recipe's. ``PART.NAME`` is an option of another row's run, such as
        ``init_from.NAME`` of the run that initialises this one. In a size with several stages,
        ``init_from.NAME`` applies to the stages before the last and other options to all stages.
    stage : int
        Index of the stage in a size with several; negative indices count from the last.
    """

    recipe: Recipe
    size: str
    seed: int
    select: bool = False
    changes: tuple[tuple[str, Any], ...] = ()
    stage: int = -1

    @property
    def name(self) -> str:
        """Name of the run folder and of the record, within those of the row."""
        return records.record_name(self.size, self.seed, self.split, dict(self.changes))

    @property
    def split(self) -> Literal["test", "valid"]:
        """Split of the scored rows."""
        return "valid" if self.select else "test"

    @property
    def stages(self) -> tuple[dict[str, Any], ...]:
        """Options of each stage of the size; a single empty dict for a size without stages."""
        return self.recipe.size(self.size).stages or ({},)

    def folder(self, runs: Path) -> Path:
        """Run folder below ``runs``."""
        number = self.stage % len(self.stages) + 1
        last = number == len(self.stages)
        row = self.recipe.model_from or self.recipe.row
        return runs / row / (self.name if last else f"{self.name}-stage{number}")

    def training(self) -> Job:
        """Job that trains the scored model; the job itself unless the recipe has ``model_from``."""
        if self.recipe.model_from is None:
            return self
        return replace(self, recipe=recipe_files.find_recipes(self.recipe.model_from)[0])

    def parts(self) -> dict[str, Job]:
        """Jobs that train the models used by this one, by the option that receives each model."""
        stage = self.stage % len(self.stages)
        if stage > 0:
            return {"init_from": replace(self, stage=stage - 1)}
        start = self.recipe.size(self.size).init_from
        rows = self.recipe.submodels | ({} if start is None else {"init_from": start})
        return {option: self._part_job(option, row) for option, row in rows.items()}

    def _part_job(self, option: str, row: str) -> Job:
        """Job of another row, with the changes named ``option.NAME``."""
        changes = tuple(self._part_changes(option).items())
        return Job(recipe_files.find_recipes(row)[0], self.size, self.seed, self.select, changes)

    def _part_changes(self, part: str) -> dict[str, Any]:
        """Changes named ``part.NAME``, by NAME."""
        prefix = f"{part}."
        return {k.removeprefix(prefix): v for k, v in self.changes if k.startswith(prefix)}

    def classifier(self) -> Job | None:
        """Job that trains the classifier of generated samples; None if there is none."""
        classifier = self.recipe.protocol.classifier
        return None if classifier is None else self._part_job("classifier", classifier)

    def models(self) -> list[Job]:
        """Jobs that train all models this one requires, in order of dependency."""
        if (training := self.training()) != self:
            jobs = training.models()
        else:
            jobs = [model for part in self.parts().values() for model in part.models()] + [self]
        if (classifier := self.classifier()) is not None:
            jobs = classifier.models() + jobs
        return list(dict.fromkeys(jobs))

    def config(self, runs: Path) -> Config:
        """Configuration of the run, with paths of the models it uses."""
        recipe, stage_options = self.recipe, self.stages[self.stage]
        config = recipe.config(self.size, self.seed, select=self.select)
        changes = {k: v for k, v in self.changes if "." not in k}
        if self.stage % len(self.stages) < len(self.stages) - 1:
            changes |= self._part_changes("init_from")
        config.options |= stage_options | changes | {"verbose": 1}
        config.options |= {option: str(part.folder(runs)) for option, part in self.parts().items()}
        return config
