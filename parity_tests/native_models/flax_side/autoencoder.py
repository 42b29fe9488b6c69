"""Convolutional autoencoder whose decoder has transposed convolutions."""

import jax.numpy as jnp
from flax import nnx


class Encoder(nnx.Module):
    def __init__(self, width, latent, size, *, rngs):
        self.conv1 = nnx.Conv(3, width, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm1 = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(width, 2 * width, (4, 4), strides=2, padding=1, rngs=rngs)
        self.norm2 = nnx.BatchNorm(2 * width, momentum=0.9, rngs=rngs)
        self.to_latent = nnx.Linear(2 * width * size * size, latent, rngs=rngs)

    def __call__(self, x):
        x = nnx.leaky_relu(self.norm1(self.conv1(x)), 0.2)
        x = nnx.leaky_relu(self.norm2(self.conv2(x)), 0.2)
        x = jnp.transpose(x, (0, 3, 1, 2))  # PyTorch flattens channels first
        return self.to_latent(x.reshape(x.shape[0], -1))


class Decoder(nnx.Module):
    def __init__(self, width, latent, size, *, rngs):
        self.from_latent = nnx.Linear(latent, 2 * width * size * size, rngs=rngs)
        self.deconv1 = nnx.ConvTranspose(
            2 * width, width, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)), transpose_kernel=True, rngs=rngs
        )
        self.deconv2 = nnx.ConvTranspose(
            width, 3, (3, 3), strides=(2, 2), padding=((1, 2), (1, 2)), transpose_kernel=True, rngs=rngs
        )
        self.shape = (2 * width, size, size)

    def __call__(self, z):
        x = nnx.relu(self.from_latent(z))
        x = x.reshape(-1, *self.shape).transpose(0, 2, 3, 1)
        x = nnx.elu(self.deconv1(x))
        return nnx.sigmoid(self.deconv2(x))


class Autoencoder(nnx.Module):
    def __init__(self, width=4, latent=6, image=16, *, rngs):
        self.encoder = Encoder(width, latent, image // 4, rngs=rngs)
        self.decoder = Decoder(width, latent, image // 4, rngs=rngs)

    def __call__(self, x):
        return self.decoder(self.encoder(x))
