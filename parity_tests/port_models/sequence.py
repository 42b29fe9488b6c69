"""Models of sequences: transformers, recurrent and convolutional ones."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from port_models.common import Model, tokens


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout=0.1, max_len=50):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        pe = torch.zeros(max_len, d_model)
        position = torch.arange(0, max_len, dtype=torch.float).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        pe = pe.unsqueeze(0)
        self.register_buffer("pe", pe)

    def forward(self, x):
        x = x + self.pe[:, : x.size(1)].requires_grad_(False)
        return self.dropout(x)


class Translation(nn.Module):
    """An encoder-decoder transformer with masks."""

    def __init__(self, vocab=11, d_model=8):
        super().__init__()
        self.src_embed = nn.Embedding(vocab, d_model, padding_idx=0)
        self.tgt_embed = nn.Embedding(vocab, d_model, padding_idx=0)
        self.pos = PositionalEncoding(d_model)
        self.transformer = nn.Transformer(d_model, 2, 1, 1, 16, batch_first=True)
        self.generator = nn.Linear(d_model, vocab)
        self.d_model = d_model
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def make_masks(self, src, tgt):
        tgt_mask = torch.triu(torch.ones(tgt.size(1), tgt.size(1), device=tgt.device), diagonal=1).bool()
        return src == 0, tgt == 0, tgt_mask

    def forward(self, src, tgt):
        src_pad, tgt_pad, tgt_mask = self.make_masks(src, tgt)
        src = self.pos(self.src_embed(src) * math.sqrt(self.d_model))
        tgt = self.pos(self.tgt_embed(tgt) * math.sqrt(self.d_model))
        out = self.transformer(
            src,
            tgt,
            tgt_mask=tgt_mask,
            src_key_padding_mask=src_pad,
            tgt_key_padding_mask=tgt_pad,
            memory_key_padding_mask=src_pad,
        )
        return F.log_softmax(self.generator(out), dim=-1)


@dataclass
class GPTConfig:
    block_size: int = 16
    vocab_size: int = 11
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 8
    dropout: float = 0.1
    bias: bool = False


class LayerNorm(nn.Module):
    """LayerNorm but with an optional bias."""

    def __init__(self, ndim, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(ndim))
        self.bias = nn.Parameter(torch.zeros(ndim)) if bias else None

    def forward(self, input):
        return F.layer_norm(input, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.n_embd % config.n_head == 0
        # key, query, value projections for all heads, but in a batch
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.n_head = config.n_head
        self.n_embd = config.n_embd
        # causal mask to ensure that attention is only applied to the left in the input sequence
        self.register_buffer(
            "bias",
            torch.tril(torch.ones(config.block_size, config.block_size)).view(
                1, 1, config.block_size, config.block_size
            ),
        )

    def forward(self, x, past=None):
        B, T, C = x.size()  # batch size, sequence length, embedding dimensionality (n_embd)
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, nh, T, hs)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if past is not None:
            past_k, past_v = past
            k = torch.cat((past_k, k), dim=-2)
            v = torch.cat((past_v, v), dim=-2)
        S = k.size(-2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, S - T : S, :S] == 0, float("-inf"))
        att = F.softmax(att, dim=-1)
        att = self.attn_dropout(att)
        y = att @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)  # re-assemble all head outputs side by side
        return self.c_proj(y), (k, v)


class GPTBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=True)
        self.mlp = nn.ModuleDict(
            dict(
                c_fc=nn.Linear(config.n_embd, 4 * config.n_embd),
                act=nn.GELU(approximate="tanh"),
                c_proj=nn.Linear(4 * config.n_embd, config.n_embd),
                dropout=nn.Dropout(config.dropout),
            )
        )
        m = self.mlp
        self.mlpf = lambda x: m.dropout(m.c_proj(m.act(m.c_fc(x))))  # MLP forward

    def forward(self, x, past=None):
        a, present = self.attn(self.ln_1(x), past)
        x = x + a
        x = x + self.mlpf(self.ln_2(x))
        return x, present


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            dict(
                wte=nn.Embedding(config.vocab_size, config.n_embd),
                wpe=nn.Embedding(config.block_size, config.n_embd),
                drop=nn.Dropout(config.dropout),
                h=nn.ModuleList([GPTBlock(config) for _ in range(config.n_layer)]),
                ln_f=LayerNorm(config.n_embd, bias=config.bias),
            )
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight  # weight tying
        self.apply(self._init_weights)
        for pn, p in self.named_parameters():
            if pn.endswith("c_proj.weight"):
                torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx, targets=None, pasts=None):
        device = idx.device
        b, t = idx.size()
        start = 0 if pasts is None else pasts[0][0].size(-2)
        assert start + t <= self.config.block_size, f"Cannot forward sequence of length {t}"
        pos = torch.arange(start, start + t, dtype=torch.long, device=device)  # shape (t)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(pos))
        presents = []
        for i, block in enumerate(self.transformer.h):
            x, present = block(x, None if pasts is None else pasts[i])
            presents.append(present)
        x = self.transformer.ln_f(x)
        if targets is not None:
            logits = self.lm_head(x)
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        else:
            logits = self.lm_head(x[:, [-1], :])
            loss = None
        return logits, loss, presents


class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, n_inputs, n_outputs, kernel_size, stride, dilation, padding, dropout=0.2):
        super().__init__()
        self.conv1 = nn.utils.parametrizations.weight_norm(
            nn.Conv1d(n_inputs, n_outputs, kernel_size, stride=stride, padding=padding, dilation=dilation)
        )
        self.chomp1 = Chomp1d(padding)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout)
        self.net = nn.Sequential(self.conv1, self.chomp1, self.relu1, self.dropout1)
        self.downsample = nn.Conv1d(n_inputs, n_outputs, 1) if n_inputs != n_outputs else None
        self.relu = nn.ReLU()
        self.init_weights()

    def init_weights(self):
        if self.downsample is not None:
            self.downsample.weight.data.normal_(0, 0.01)

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self, num_inputs=3, num_channels=(4, 4), kernel_size=2):
        super().__init__()
        layers = []
        num_levels = len(num_channels)
        for i in range(num_levels):
            dilation_size = 2**i
            in_channels = num_inputs if i == 0 else num_channels[i - 1]
            layers += [
                TemporalBlock(
                    in_channels,
                    num_channels[i],
                    kernel_size,
                    stride=1,
                    dilation=dilation_size,
                    padding=(kernel_size - 1) * dilation_size,
                )
            ]
        self.network = nn.Sequential(*layers)

    def forward(self, x):
        return self.network(x)


class BahdanauAttention(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.Wa = nn.Linear(hidden_size, hidden_size)
        self.Ua = nn.Linear(hidden_size, hidden_size)
        self.Va = nn.Linear(hidden_size, 1)

    def forward(self, query, keys):
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys)))
        scores = scores.squeeze(2).unsqueeze(1)
        weights = F.softmax(scores, dim=-1)
        context = torch.bmm(weights, keys)
        return context, weights


class Seq2Seq(nn.Module):
    MAX_LENGTH = 4

    def __init__(self, vocab=11, hidden_size=6):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden_size)
        self.encoder = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.attention = BahdanauAttention(hidden_size)
        self.gru = nn.GRU(2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, vocab)

    def forward_step(self, input, hidden, encoder_outputs):
        embedded = self.embedding(input)
        query = hidden.permute(1, 0, 2)
        context, attn_weights = self.attention(query, encoder_outputs)
        input_gru = torch.cat((embedded, context), dim=2)
        output, hidden = self.gru(input_gru, hidden)
        output = self.out(output)
        return output, hidden, attn_weights

    def forward(self, source, target_tensor=None):
        encoder_outputs, encoder_hidden = self.encoder(self.embedding(source))
        batch_size = encoder_outputs.size(0)
        decoder_input = torch.empty(batch_size, 1, dtype=torch.long, device=source.device).fill_(1)
        decoder_hidden = encoder_hidden
        decoder_outputs = []
        attentions = []
        for i in range(self.MAX_LENGTH):
            decoder_output, decoder_hidden, attn_weights = self.forward_step(
                decoder_input, decoder_hidden, encoder_outputs
            )
            decoder_outputs.append(decoder_output)
            attentions.append(attn_weights)
            if target_tensor is not None:
                # Teacher forcing: Feed the target as the next input
                decoder_input = target_tensor[:, i].unsqueeze(1)
            else:
                # Without teacher forcing: use its own predictions as the next input
                _, topi = decoder_output.topk(1)
                decoder_input = topi.squeeze(-1).detach()  # detach from history as input
        decoder_outputs = torch.cat(decoder_outputs, dim=1)
        decoder_outputs = F.log_softmax(decoder_outputs, dim=-1)
        return decoder_outputs, decoder_hidden, torch.cat(attentions, dim=1)


class TextCNN(nn.Module):
    def __init__(self, vocab=11, dim=6, kernel_sizes=(2, 3), num_filters=4, num_classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.convs = nn.ModuleList([nn.Conv2d(1, num_filters, (k, dim)) for k in kernel_sizes])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(len(kernel_sizes) * num_filters, num_classes)

    def conv_and_pool(self, x, conv):
        x = F.relu(conv(x)).squeeze(3)
        x = F.max_pool1d(x, x.size(2)).squeeze(2)
        return x

    def forward(self, x):
        out = self.embed(x)
        out = out.unsqueeze(1)
        out = torch.cat([self.conv_and_pool(out, conv) for conv in self.convs], 1)
        out = self.dropout(out)
        return self.fc(out)


class WaveNet(nn.Module):
    def __init__(self, layers=3, res=4, skip=5):
        super().__init__()
        self.start = nn.Conv1d(2, res, 1)
        self.dilated, self.res_convs, self.skip_convs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in range(layers):
            self.dilated.append(nn.Conv1d(res, 2 * res, 2, dilation=2**i))
            self.res_convs.append(nn.Conv1d(res, res, 1))
            self.skip_convs.append(nn.Conv1d(res, skip, 1))
        self.end = nn.Conv1d(skip, 3, 1)

    def forward(self, x):
        x = self.start(x)
        skip = 0
        for conv, res_conv, skip_conv in zip(self.dilated, self.res_convs, self.skip_convs):
            h = conv(F.pad(x, (conv.dilation[0], 0)))
            filter, gate = torch.chunk(h, 2, dim=1)
            h = torch.tanh(filter) * torch.sigmoid(gate)
            skip = skip_conv(h) + skip
            x = x + res_conv(h)
        return self.end(F.relu(skip, inplace=True))


def rotate_half(x):
    """Rotates half the hidden dims of the input."""
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=1):
    cos = cos.unsqueeze(unsqueeze_dim)
    sin = sin.unsqueeze(unsqueeze_dim)
    q_embed = (q * cos) + (rotate_half(q) * sin)
    k_embed = (k * cos) + (rotate_half(k) * sin)
    return q_embed, k_embed


def repeat_kv(hidden_states, n_rep: int):
    batch, num_key_value_heads, slen, head_dim = hidden_states.shape
    if n_rep == 1:
        return hidden_states
    hidden_states = hidden_states[:, :, None, :, :].expand(batch, num_key_value_heads, n_rep, slen, head_dim)
    return hidden_states.reshape(batch, num_key_value_heads * n_rep, slen, head_dim)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


class RotaryAttention(nn.Module):
    def __init__(self, dim=8, heads=4, kv_heads=2):
        super().__init__()
        self.num_heads, self.num_kv, self.head_dim = heads, kv_heads, dim // heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.norm = RMSNorm(dim)
        inv_freq = 1.0 / (10000 ** (torch.arange(0, self.head_dim, 2, dtype=torch.int64).float() / self.head_dim))
        self.register_buffer("inv_freq", inv_freq, persistent=False)

    @torch.no_grad()
    def rope(self, x, position_ids):
        inv_freq_expanded = self.inv_freq[None, :, None].float().expand(position_ids.shape[0], -1, 1)
        position_ids_expanded = position_ids[:, None, :].float()
        freqs = (inv_freq_expanded @ position_ids_expanded).transpose(1, 2)
        emb = torch.cat((freqs, freqs), dim=-1)
        return emb.cos().to(dtype=x.dtype), emb.sin().to(dtype=x.dtype)

    def forward(self, x, attention_mask=None):
        x = self.norm(x)
        bsz, q_len, _ = x.size()
        q = self.q_proj(x).view(bsz, q_len, -1, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(bsz, q_len, self.num_kv, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(bsz, q_len, self.num_kv, self.head_dim).transpose(1, 2)
        position_ids = torch.arange(q_len, device=x.device).unsqueeze(0)
        cos, sin = self.rope(v, position_ids)
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        k, v = repeat_kv(k, self.num_heads // self.num_kv), repeat_kv(v, self.num_heads // self.num_kv)
        causal = torch.full((q_len, q_len), torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device)
        causal = torch.triu(causal, diagonal=1)[None, None, :, :]
        if attention_mask is not None:
            causal = causal + (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -1e4
        w = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(self.head_dim) + causal
        w = nn.functional.softmax(w, dim=-1, dtype=torch.float32).to(q.dtype)
        out = torch.matmul(w, v).transpose(1, 2).contiguous()
        return out.reshape(bsz, q_len, -1)


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim=5, hidden_dim=6, vocab_size=11, tagset_size=4):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim // 2, num_layers=2, bidirectional=True, dropout=0.3)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def init_hidden(self, batch):
        weight = next(self.parameters())
        return (weight.new_zeros(4, batch, self.hidden_dim // 2), weight.new_zeros(4, batch, self.hidden_dim // 2))

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence.t())
        lstm_out, _ = self.lstm(embeds, self.init_hidden(sentence.size(0)))
        tag_space = self.hidden2tag(lstm_out)
        return F.log_softmax(tag_space, dim=2).permute(1, 0, 2)


class SpeechCTC(nn.Module):
    def __init__(self, n_mels=6, n_class=5):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(n_mels, 8, 3, 2, 1), nn.BatchNorm1d(8), nn.Hardtanh(0, 20, inplace=True))
        self.rnn = nn.GRU(8, 4, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(8, n_class)
        self.ctc = nn.CTCLoss(blank=0, zero_infinity=True)

    def forward(self, x, targets, target_lengths):
        x = self.conv(x).transpose(1, 2)
        x, _ = self.rnn(x)
        log_probs = F.log_softmax(self.fc(x), dim=-1).transpose(0, 1)
        input_lengths = torch.full(size=(x.size(0),), fill_value=log_probs.size(0), dtype=torch.long)
        return log_probs, self.ctc(log_probs, targets, input_lengths, target_lengths)


class SelectiveScan(nn.Module):
    """A state space layer as a loop over time."""

    def __init__(self, d_model=4, d_state=3):
        super().__init__()
        self.in_proj = nn.Linear(d_model, 2 * d_model)
        self.x_proj = nn.Linear(d_model, 1 + 2 * d_state)
        self.dt = nn.Parameter(torch.zeros(d_model))
        A = torch.arange(1, d_state + 1, dtype=torch.float32).repeat(d_model, 1)
        self.A_log = nn.Parameter(torch.log(A))
        self.D = nn.Parameter(torch.ones(d_model))
        self.conv1d = nn.Conv1d(d_model, d_model, 3, groups=d_model, padding=2)

    def forward(self, u):
        (b, l, d) = u.shape
        x, z = self.in_proj(u).chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., :l].transpose(1, 2))
        A = -torch.exp(self.A_log.float())
        n = A.shape[1]
        delta, B, C = self.x_proj(x).split([1, n, n], dim=-1)
        delta = F.softplus(delta + self.dt)
        deltaA = torch.exp(torch.einsum("bld,dn->bldn", delta, A))
        deltaB_u = torch.einsum("bld,bln,bld->bldn", delta, B, x)
        h = torch.zeros((b, d, n), device=deltaA.device)
        ys = []
        for i in range(l):
            h = deltaA[:, i] * h + deltaB_u[:, i]
            ys.append(torch.einsum("bdn,bn->bd", h, C[:, i, :]))
        y = torch.stack(ys, dim=1) + x * self.D
        return y * F.silu(z)


class LinearAttention(nn.Module):
    def __init__(self, dim=6, heads=2):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)

    def forward(self, x):
        b, n, d, h = *x.shape, self.heads
        q, k, v = map(lambda t: t.reshape(b, n, h, -1).transpose(1, 2), self.to_qkv(x).chunk(3, dim=-1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        context = torch.einsum("bhnd,bhne->bhde", k, v)
        z = 1 / (torch.einsum("bhnd,bhd->bhn", q, k.sum(dim=-2)) + 1e-6)
        out = torch.einsum("bhde,bhnd,bhn->bhne", context, q, z)
        return out.transpose(1, 2).reshape(b, n, d)


def _kv():
    return [(torch.randn(2, 2, 3, 4), torch.randn(2, 2, 3, 4)) for _ in range(2)]


MODELS = [
    Model("translation", Translation, lambda: (torch.randint(1, 11, (2, 5)), torch.randint(1, 11, (2, 4)))),
    Model("gpt", lambda: GPT(GPTConfig()), lambda: (torch.randint(0, 11, (2, 6)), torch.randint(0, 11, (2, 6)))),
    Model("gpt_cached", lambda: GPT(GPTConfig()), tokens(2, 2), lambda: {"pasts": _kv()}),
    Model("tcn", TCN, lambda: (torch.randn(2, 3, 9),)),
    Model("seq2seq", Seq2Seq, tokens(2, 5)),
    Model("seq2seq_forced", Seq2Seq, lambda: (torch.randint(0, 11, (2, 5)), torch.randint(0, 11, (2, 5)))),
    Model("text_cnn", TextCNN, tokens()),
    Model("wavenet", WaveNet, lambda: (torch.randn(2, 2, 12),)),
    Model("rotary", RotaryAttention, lambda: (torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]))),
    Model("lstm_tagger", LSTMTagger, tokens()),
    Model("speech_ctc", SpeechCTC, lambda: (torch.randn(2, 6, 20), torch.randint(1, 5, (2, 3)), torch.tensor([3, 2]))),
    Model("selective_scan", SelectiveScan, lambda: (torch.randn(2, 5, 4),)),
    Model("linear_attention", LinearAttention, lambda: (torch.randn(2, 5, 6),)),
]
