"""The example of the README: fit, evaluate, sample, impute, save, load."""

import numpy as np

import ancestral

digits = ancestral.datasets.load("digits")
vae = ancestral.VAE(n_latents=10, hidden=(200,), max_epochs=60, random_state=0)
vae.fit(digits.x_train)

print(vae.log_likelihood(digits.x_test))  # nats per image, with its standard error
samples = vae.sample(16)  # [16, 64]
incomplete = np.where(np.arange(64) < 32, np.nan, digits.x_test)  # the upper half is missing
imputed = vae.impute(incomplete)

vae.save("digits-vae", overwrite=True)
loaded = ancestral.load("digits-vae")
