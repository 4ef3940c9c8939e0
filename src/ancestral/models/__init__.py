"""Models as modules: latent-variable, implicit, deterministic and exact ones.

Each runs on a batch and answers with a record of the forward pass, which objectives read.
"""

from ancestral.models.deterministic import Coder, FeatureModel
from ancestral.models.exact import ExactModel
from ancestral.models.factor_analysis import FactorAnalyser, LatentFeatures
from ancestral.models.implicit import Coded, Game, Generator
from ancestral.models.latent import LatentModel
from ancestral.models.mixture import LatentClasses
from ancestral.models.run import Run
from ancestral.models.stacked import Stacked

__all__ = [
    "Coded",
    "Coder",
    "ExactModel",
    "FactorAnalyser",
    "FeatureModel",
    "Game",
    "Generator",
    "LatentClasses",
    "LatentFeatures",
    "LatentModel",
    "Run",
    "Stacked",
]
