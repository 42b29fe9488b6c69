"""Small networks as PyTorch users write them, for faults that the registered networks have no line for."""

import torch
from torch import nn
from torch.nn import functional as F


class Pyramid(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1, padding_mode="reflect")
        self.coarse = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        fine = F.silu(self.enter(x))
        coarse = F.interpolate(fine, scale_factor=0.5, mode="bilinear", align_corners=False)
        coarse = F.silu(self.coarse(coarse))
        up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
        return self.leave(fine + up)


class Thumbnail(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.out = nn.Linear(width * 5 * 5, 3)

    def forward(self, x):
        x = torch.tanh(self.conv(x))
        x = F.interpolate(x, size=(5, 5), mode="nearest")
        return self.out(x.flatten(1))


class TextClassifier(nn.Module):
    """Returns the loss, as Hugging Face's models do when they get labels."""

    def __init__(self, vocab_size=20, dim=6, num_classes=4):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.conv = nn.Conv1d(dim, 8, 3, padding=1)
        self.fc = nn.Linear(8, num_classes)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)

    def forward(self, ids, labels):
        x = self.embedding(ids).transpose(1, 2)
        x = F.gelu(self.conv(x)).amax(2)
        logits = self.fc(x)
        return self.loss(logits, labels), logits


class SentenceEncoder(nn.Module):
    def __init__(self, vocab_size=20, dim=8, num_heads=2, num_layers=2, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0)
        layer = nn.TransformerEncoderLayer(dim, num_heads, 16, dropout, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.pooler = nn.Linear(dim, dim)

    def forward(self, ids):
        padding = ids == 0
        x = self.encoder(self.embedding(ids) * 8**0.5, src_key_padding_mask=padding)
        keep = (~padding).unsqueeze(2).to(x.dtype)
        return torch.tanh(self.pooler((x * keep).sum(1) / keep.sum(1)))


class HandwrittenLSTM(nn.Module):
    def __init__(self, input_size=5, hidden_size=6, num_outputs=3):
        super().__init__()
        self.hidden_size = hidden_size
        self.x2h = nn.Linear(input_size, 4 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 4 * hidden_size)
        self.out = nn.Linear(hidden_size, num_outputs)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.hidden_size)
        for t in range(x.shape[1]):
            i, f, g, o = (self.x2h(x[:, t]) + self.h2h(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduced):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x):
        s = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(s))))


class MobileBlock(nn.Module):
    def __init__(self, channels, expansion=2):
        super().__init__()
        wide = expansion * channels
        self.expand = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=1e-3, momentum=0.01)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide, eps=1e-3, momentum=0.01)
        self.se = SqueezeExcite(wide, channels)
        self.project = nn.Conv2d(wide, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        y = F.silu(self.bn1(self.expand(x)))
        y = F.silu(self.bn2(self.depthwise(y)))
        return x + self.bn3(self.project(self.se(y)))


class MobileNet(nn.Module):
    def __init__(self, width=4, num_blocks=2, num_classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*[MobileBlock(width) for _ in range(num_blocks)])
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        return self.fc(self.blocks(x).mean((2, 3)))


class Generator(nn.Module):
    def __init__(self, latent=6, width=4):
        super().__init__()
        self.fc = nn.Linear(latent, 2 * width * 4 * 4)
        self.deconv1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.deconv2 = nn.ConvTranspose2d(width, 3, 3, stride=2, padding=1, output_padding=1)

    def forward(self, z):
        x = F.relu(self.fc(z)).view(z.shape[0], -1, 4, 4)
        x = F.leaky_relu(self.bn1(self.deconv1(x)), 0.2)
        return torch.tanh(self.deconv2(x))


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class LlamaAttention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x, mask):
        n, t, d = x.shape
        q, k, v = (p(x).view(n, t, self.num_heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        scores = q @ k.transpose(2, 3) / (d // self.num_heads) ** 0.5
        scores = scores.masked_fill(mask, -1e9)
        y = scores.softmax(-1) @ v
        return self.o_proj(y.transpose(1, 2).reshape(n, t, d))


class LlamaMLP(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.input_norm = RMSNorm(dim)
        self.attention = LlamaAttention(dim, num_heads)
        self.mlp_norm = RMSNorm(dim)
        self.mlp = LlamaMLP(dim, 2 * dim)

    def forward(self, x, mask):
        x = x + self.attention(self.input_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    def __init__(self, vocab_size=20, dim=8, num_heads=2, num_layers=2):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList([LlamaBlock(dim, num_heads) for _ in range(num_layers)])
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


class Universal(nn.Module):
    """One block, applied several times."""

    def __init__(self, dim=6, steps=3):
        super().__init__()
        self.steps = steps
        self.norm = nn.LayerNorm(dim)
        self.block = nn.Sequential(nn.Linear(dim, 2 * dim), nn.Softplus(), nn.Linear(2 * dim, dim))
        self.out = nn.Linear(dim, 2)

    def forward(self, x):
        for _ in range(self.steps):
            x = x + self.block(self.norm(x))
        return self.out(x)


class TwoTowers(nn.Module):
    def __init__(self, dim=6, size=6):
        super().__init__()
        self.image = nn.Linear(dim, size)
        self.text = nn.Linear(dim, size)
        self.loss = nn.MSELoss()

    def forward(self, images, texts, target):
        a = F.normalize(self.image(images), dim=-1)
        b = F.normalize(self.text(texts), dim=-1)
        logits = a @ b.t() / 0.07
        return self.loss(logits, target), logits.softmax(1)


class Dense(nn.Module):
    """The layer of two reports of other numbers: one product of 768 terms."""

    def __init__(self, in_features=768, out_features=32):
        super().__init__()
        self.dense = nn.Linear(in_features, out_features)

    def forward(self, x):
        return self.dense(x)
