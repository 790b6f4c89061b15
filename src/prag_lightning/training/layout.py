"""Where adapters and results stand: the published directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prag_lightning.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class TrainedBase:
    """A `base_weight` that has been trained: its directory, and the hash of its weights."""

    directory: Path
    hash: str


@dataclass(frozen=True)
class Layout:
    """Paths of one experiment.

    Args:
        offline_root: Root of adapters.
        output_root: Root of results.
        model: Short name of the model.
        dataset: The dataset's name.
        augment_model: Short name of the model that augmented.
        recipe: How adapters are trained.
        with_cot: With a chain of thought.
        objective: What adapters are trained on; the published one is not named in paths.
        trained_base: The adapter that every passage starts from, where it has been trained; unset means a random one,
            which is not named in paths.
    """

    offline_root: Path
    output_root: Path
    model: str
    dataset: str
    augment_model: str
    recipe: TrainingRecipe
    with_cot: bool
    objective: str = "published"
    trained_base: TrainedBase | None = None

    @property
    def base_weight(self) -> Path:
        """The adapter that every passage starts from."""
        if self.trained_base is not None:
            return self.trained_base.directory
        return self.offline_root / self._model_and_rank / "base_weight"

    @property
    def adapters(self) -> Path:
        """The recipe's directory; below it `{split}/data_{did}/passage_{pid}`."""
        return self.offline_root / self._experiment

    @property
    def null_space(self) -> Path:
        """The folder of the model's projections."""
        return self.offline_root / self.model

    def results(self, method: str) -> Path:
        """Where a method's results go, a folder a split, unless others are there: see `identity.claim_folder`."""
        return self.output_root / self._experiment / method

    @property
    def _model_and_rank(self) -> Path:
        return Path(self.model) / f"rank={self.recipe.lora_rank}_alpha={self.recipe.lora_alpha}"

    @property
    def _experiment(self) -> Path:
        training = f"lr={self.recipe.learning_rate}_epoch={self.recipe.num_train_epochs}"
        training += "_cot" if self.with_cot else "_direct"
        if self.objective != "published":
            training += f"_objective={self.objective}"
        if self.recipe.null_space is not None:
            training += f"_null_space={self.recipe.null_space}"
        if self.recipe.lora_a != "trained":
            training += f"_lora_a={self.recipe.lora_a}"
        if self.trained_base is not None:
            training += f"_base={self.trained_base.hash[:8]}"
        return self._model_and_rank / self.dataset / training / f"aug_model={self.augment_model}"


def warmup_directory(root: Path, model: str, with_cot: bool) -> Path:
    """Where a warm-up writes the `base_weight` that it trains.

    Args:
        root: Of warm-ups.
        model: Short name of the model.
        with_cot: Whether it is one for answers with a chain of thought.
    """
    return root / "lora_base_weight" / model / ("cot" if with_cot else "direct")
