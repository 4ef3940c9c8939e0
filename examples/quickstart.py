"""The ten lines of the README: fit, evaluate, sample, fill in, save, load."""

import numpy as np

import ancestral

digits = ancestral.datasets.load("digits")
vae = ancestral.VAE(n_latents=10, hidden=(200,), max_epochs=60, random_state=0)
vae.fit(digits.x_train)

print(vae.log_likelihood(digits.x_test))  # nats per image, with its standard error
new = vae.sample(16)  # [16, 64]
damaged = np.where(np.arange(64) < 32, np.nan, digits.x_test)  # the upper half is missing
filled = vae.impute(damaged)

vae.save("digits-vae", overwrite=True)
again = ancestral.load("digits-vae")
