"""GRU encoder and decoder with attention (arXiv:1508.04025)."""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self, vocab_size, emb_dim, hid_dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb_dim)
        self.rnn = nn.GRU(emb_dim, hid_dim, batch_first=True)

    def forward(self, src):
        return self.rnn(self.embedding(src))


class Attention(nn.Module):
    def __init__(self, hid_dim):
        super().__init__()
        self.attn = nn.Linear(hid_dim, hid_dim, bias=False)

    def forward(self, hidden, encoder_outputs):
        scores = torch.bmm(encoder_outputs, self.attn(hidden).unsqueeze(2)).squeeze(2)
        weights = torch.softmax(scores, dim=1)
        return torch.bmm(weights.unsqueeze(1), encoder_outputs).squeeze(1)


class Decoder(nn.Module):
    def __init__(self, vocab_size, emb_dim, hid_dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb_dim)
        self.attention = Attention(hid_dim)
        self.cell = nn.GRUCell(emb_dim + hid_dim, hid_dim)
        self.fc_out = nn.Linear(2 * hid_dim, vocab_size)

    def forward(self, tokens, hidden, encoder_outputs):
        context = self.attention(hidden, encoder_outputs)
        hidden = self.cell(torch.cat([self.embedding(tokens), context], dim=1), hidden)
        return self.fc_out(torch.cat([hidden, context], dim=1)), hidden


class Seq2Seq(nn.Module):
    def __init__(self, src_vocab=20, trg_vocab=24, emb_dim=8, hid_dim=10):
        super().__init__()
        self.encoder = Encoder(src_vocab, emb_dim, hid_dim)
        self.decoder = Decoder(trg_vocab, emb_dim, hid_dim)

    def forward(self, src, trg):
        encoder_outputs, hidden = self.encoder(src)
        hidden = hidden[0]
        outputs = []
        for t in range(trg.shape[1]):
            logits, hidden = self.decoder(trg[:, t], hidden, encoder_outputs)
            outputs.append(logits)
        return torch.stack(outputs, dim=1)
