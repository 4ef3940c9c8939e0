"""Deterministic models: classifiers of features and autoencoders."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.data.batch import Batch
from ancestral.models.run import AutoencoderRun, FeatureRun
from ancestral.probability.conditionals import Conditional, Context
from ancestral.probability.distributions import log_prob


class FeatureModel(nn.Module):
    """Discriminative model: a feature network and a linear classifier.

    Parameters
    ----------
    network : Module
        Map ``Context`` -> features [batch, n]. It begins with ``ReadContext`` or reads x and mask
        itself.
    classifier : Module
        Map features -> scores [batch, n_classes].
    """

    def __init__(self, network: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.network, self.classifier = network, classifier

    def features(self, batch: Batch) -> Tensor:
        """Return the features of a batch, [batch, n]."""
        return self.network(Context(batch.x, batch.y, batch.mask))

    def run(self, batch: Batch) -> FeatureRun:
        """Run the network once."""
        return FeatureRun(batch, self.features(batch))


class AutoencoderModel(nn.Module):
    """Autoencoder with a deterministic encoder and a likelihood p(x | code).

    Unlike a :class:`LatentModel` it has no prior over codes.

    Parameters
    ----------
    encoder : Module
        Map ``Context`` -> codes [batch, n]. It begins with ``ReadContext`` or reads x and mask
        itself.
    likelihood : Conditional
        p(x | code).

    Examples
    --------
    >>> from ancestral.probability.conditionals import Bernoulli
    >>> from ancestral.nn import MLP, ReadContext
    >>> encoder = nn.Sequential(ReadContext("x"), MLP(4, (8,), 2))
    >>> model = AutoencoderModel(encoder, Bernoulli(MLP(2, (8,), 4)))
    >>> model.run(Batch(torch.ones(3, 4))).log_px.shape
    torch.Size([3])
    """

    def __init__(self, encoder: nn.Module, likelihood: Conditional) -> None:
        super().__init__()
        self.encoder, self.likelihood = encoder, likelihood

    def encode(self, batch: Batch) -> Tensor:
        """Return the codes of a batch, [batch, n]."""
        return self.encoder(Context(batch.x, batch.y, batch.mask))

    def decode(self, code: Float[Tensor, "*b n"]) -> Distribution:
        """Return p(x | code)."""
        return self.likelihood(code)

    def run(self, batch: Batch) -> AutoencoderRun:
        """Encode a batch and compute log p(x | code) of the observed entries."""
        code = self.encode(batch)
        return AutoencoderRun(batch, code, log_prob(self.decode(code), batch.x, batch.mask))
