"""Convolutional autoencoder whose decoder has transposed convolutions."""

from torch import nn


class AutoEncoder(nn.Module):
    def __init__(self, width=4, latent_dim=6, image_size=16):
        super().__init__()
        self.size = image_size // 4
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * self.size**2, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 2 * width * self.size**2),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, self.size, self.size)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ELU(),
            nn.ConvTranspose2d(width, 3, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))
