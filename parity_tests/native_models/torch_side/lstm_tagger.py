"""Word tagger with a bidirectional LSTM (arXiv:1508.01991)."""

from torch import nn


class LSTMTagger(nn.Module):
    def __init__(self, vocab_size=30, embedding_dim=8, hidden_dim=6, num_tags=5, dropout=0.3):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, bidirectional=True, batch_first=True)
        self.hidden2tag = nn.Linear(2 * hidden_dim, num_tags)

    def forward(self, sentence):
        embeds = self.dropout(self.word_embeddings(sentence))
        lstm_out, _ = self.lstm(embeds)
        return nn.functional.log_softmax(self.hidden2tag(lstm_out), dim=-1)
