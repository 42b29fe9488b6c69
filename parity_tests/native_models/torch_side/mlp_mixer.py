"""MLP-Mixer of "MLP-Mixer: an all-MLP architecture for vision" (arXiv:2105.01601)."""

from torch import nn


class FeedForward(nn.Sequential):
    def __init__(self, dim, hidden_dim, dropout):
        super().__init__(
            nn.Linear(dim, hidden_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_dim, dim), nn.Dropout(dropout)
        )


class MixerBlock(nn.Module):
    def __init__(self, dim, num_patches, token_dim, channel_dim, dropout):
        super().__init__()
        self.token_norm = nn.LayerNorm(dim)
        self.token_mix = FeedForward(num_patches, token_dim, dropout)
        self.channel_norm = nn.LayerNorm(dim)
        self.channel_mix = FeedForward(dim, channel_dim, dropout)

    def forward(self, x):
        x = x + self.token_mix(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channel_mix(self.channel_norm(x))


class MLPMixer(nn.Module):
    def __init__(self, image_size=16, patch_size=4, dim=12, depth=2, num_classes=10, dropout=0.1):
        super().__init__()
        num_patches = (image_size // patch_size) ** 2
        self.patch_embed = nn.Conv2d(3, dim, patch_size, stride=patch_size)
        self.blocks = nn.ModuleList([MixerBlock(dim, num_patches, 10, 24, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.norm(x).mean(1))
