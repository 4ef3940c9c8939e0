"""Models as modules: latent-variable, implicit, deterministic and exact ones.

Each runs on a batch and answers with a record of the forward pass, which objectives read.
"""

from ancestral.models.deterministic import AutoencoderModel, FeatureModel
from ancestral.models.exact import ExactModel
from ancestral.models.factor_analysis import FactorAnalyser, FactorAnalysisModel
from ancestral.models.implicit import AdversarialPair, Generator, LatentSpaceGenerator
from ancestral.models.latent import LatentModel
from ancestral.models.mixture import MixtureLatentModel
from ancestral.models.run import Run
from ancestral.models.stacked import StackedLatentModel

__all__ = [
    "AdversarialPair",
    "AutoencoderModel",
    "ExactModel",
    "FactorAnalyser",
    "FactorAnalysisModel",
    "FeatureModel",
    "Generator",
    "LatentModel",
    "LatentSpaceGenerator",
    "MixtureLatentModel",
    "Run",
    "StackedLatentModel",
]
